"""The journal of an unfinished embedding: kept by model and sequence, and cut short without harm."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.journal import VectorJournal


def test_vectors_come_back_by_their_sequence_and_to_the_last_bit(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    journal = VectorJournal(tmp_path / "j", "model", 5)
    for sequence, vector in zip(("MK", "MKV", "LL"), vectors):
        journal.add(sequence, vector)
    again = VectorJournal(tmp_path / "j", "model", 5)
    assert len(again) == 3
    for sequence, vector in zip(("MK", "MKV", "LL"), vectors):
        np.testing.assert_array_equal(again.get(sequence), vector)
    assert again.get("M") is None


def test_a_record_cut_short_is_dropped_and_the_next_one_fits_behind_the_whole_ones(tmp_path):
    journal = VectorJournal(tmp_path / "j", "model", 4)
    journal.add("MK", np.ones(4))
    journal.add("MKV", np.full(4, 2.0))
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes()[:-3])
    again = VectorJournal(tmp_path / "j", "model", 4)
    assert (len(again), again.get("MKV")) == (1, None)
    again.add("LL", np.full(4, 3.0))
    third = VectorJournal(tmp_path / "j", "model", 4)
    np.testing.assert_array_equal(third.get("MK"), np.ones(4))
    np.testing.assert_array_equal(third.get("LL"), np.full(4, 3.0))


def test_another_models_vectors_are_not_taken_up(tmp_path):
    VectorJournal(tmp_path / "j", "model", 4).add("MK", np.ones(4))
    assert VectorJournal(tmp_path / "j", "other", 4).get("MK") is None


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateshiftError, match="can't be written"):
        VectorJournal(tmp_path / "file" / "j", "model", 4).add("MK", np.ones(4))
