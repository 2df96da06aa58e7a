"""Windows of long proteins, and batches within their budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.embedding.batches import Piece, padding, plan, windows
from stateshift.proteins.fasta import read_fasta


def test_windows_of_1022_begin_every_766_and_the_last_ends_with_the_protein():
    assert windows(1) == [(0, 1)]
    assert windows(1022) == [(0, 1022)]
    assert windows(1023) == [(0, 1022), (766, 1023)]
    assert windows(1788) == [(0, 1022), (766, 1788)]
    assert windows(1789) == [(0, 1022), (766, 1788), (1532, 1789)]


@pytest.mark.parametrize("length", [1023, 1788, 5635, 34350])
def test_windows_cover_every_residue_and_none_is_longer_than_the_model_knows(length):
    spans = windows(length)
    assert sorted(set().union(*(range(*span) for span in spans))) == list(range(length))
    assert max(end - start for start, end in spans) == 1022
    assert all(earlier[1] - later[0] == 256 for earlier, later in itertools.pairwise(spans))


def test_batches_keep_to_the_budget_and_hold_each_window_once():
    lengths = [3000, 1500, *(10 + 37 * i for i in range(25))]
    groups = plan(lengths, 2048)
    batches = [batch for group in groups for batch in group]
    assert max(len(batch) * max(piece.tokens for piece in batch) for batch in batches) <= 2048
    pieces = [piece for batch in batches for piece in batch]
    assert sorted(pieces) == sorted(Piece(n, *span) for n, length in enumerate(lengths) for span in windows(length))


def test_a_group_finishes_its_proteins():
    groups = plan([3000, 700, 1500, 690, 5], 2048)
    assert [{piece.protein for batch in group for piece in batch} for group in groups] == [{0}, {2}, {1, 3}, {4}]
    assert [len(group) for group in groups] == [3, 2, 1, 1]


def test_a_budget_under_a_window_is_refused():
    with pytest.raises(StateshiftError, match="at least 1024 tokens"):
        plan([3], 512)


def test_padding_is_counted_against_all_tokens():
    assert padding([[[Piece(0, 0, 98), Piece(1, 0, 48)]]]) == pytest.approx(50 / 200)
    assert padding([]) == 0


@pytest.mark.parametrize("lengths", [np.linspace(61, 700, 64), 2 ** np.arange(1, 15), [1022, 1023, 5000, 8, 7]])
def test_no_batch_is_padded_by_more_than_8_percent(lengths):
    groups = plan(np.asarray(lengths).astype(int).tolist(), 4096)
    assert max(padding([[batch]]) for group in groups for batch in group) <= 0.08


def test_a_proteome_needs_hardly_any_padding(shared_data):
    proteins = read_fasta(shared_data / "proteins" / "human_subset.fasta")
    groups = plan([len(protein.sequence) for protein in proteins], 2048)
    assert padding(groups) < 0.01
    assert max(piece.tokens for group in groups for batch in group for piece in batch) == 1024
