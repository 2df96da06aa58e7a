"""Pairs from tables, TM-align and classes, and draws that every interval shares alike."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.classes import read_classes
from stateshift.structure.parsing import read_chains
from stateshift.structure.training import Pairs, class_pairs, read_pairs, tm_pairs


def test_a_table_is_read_and_all_that_is_wrong_with_it_told(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,tm,note\nx,y,0.8,\ny,z,0.31,far\n")
    pairs = read_pairs(path)
    assert [(pairs.names[i], pairs.names[j]) for i, j in pairs.index] == [("x", "y"), ("y", "z")]
    np.testing.assert_allclose(pairs.similarity, [0.8, 0.31])
    path.write_text("a,b,tm\nx,y,1.5\n,z,high\n")
    with pytest.raises(InputProblems) as told:
        read_pairs(path)
    for words in ("line 2: the score `1.5`", "line 3: the score `high`", "line 3: a name is empty"):
        assert words in str(told.value)
    path.write_text("first,second,score\nx,y,0.5\n")
    with pytest.raises(InputProblems, match="no column `a`"):
        read_pairs(path)


def test_tm_scores_are_tm_align_s_and_one_for_a_copy_that_is_turned(shared_data, tmp_path):
    from dataclasses import replace

    folder = shared_data / "structure" / "globins"
    names = ("d1tu9a_", "d1hlba_")
    chains = {name: read_chains(folder / f"{name}.pdb")[0] for name in names}
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float32)
    first = chains["d1tu9a_"]
    chains["turned"] = replace(first, backbone=first.backbone @ turn + 30)
    pairs = tm_pairs(chains)
    score = {frozenset(pairs.names[i] for i in ij): s for ij, s in zip(pairs.index, pairs.similarity)}
    assert score[frozenset({"d1tu9a_", "turned"})] == pytest.approx(1, abs=1e-4)
    # two globins of one family share their fold
    assert 0.6 < score[frozenset(names)] < 0.95
    with pytest.raises(StateshiftError, match="need two chains"):
        tm_pairs({"d1tu9a_": first})


def test_classes_give_every_level_its_similarity_and_none_by_mistake():
    classes = {f"{f}{i}": f for f in ("a.1.1.1", "a.1.1.2", "a.1.2.1", "a.2.1.1", "b.1.1.1") for i in range(4)}
    pairs = class_pairs(classes, per_level=40)
    assert len({tuple(sorted(ij)) for ij in pairs.index.tolist()}) == len(pairs)
    expected = {4: 0.9, 3: 0.7, 2: 0.5, 1: 0.2, 0: 0.2}
    for (i, j), similarity in zip(pairs.index, pairs.similarity):
        a, b = classes[pairs.names[i]].split("."), classes[pairs.names[j]].split(".")
        shared = next((n for n in range(4) if a[n] != b[n]), 4)
        assert similarity == pytest.approx(expected[shared])
    assert set(np.round(pairs.similarity, 1)) == {np.float32(v) for v in (0.9, 0.7, 0.5, 0.2)}


def test_cath_codes_of_one_topology_count_as_one_fold():
    pairs = class_pairs({"x": "1.10.10.1", "y": "1.10.10.2", "z": "1.10.10.1"}, per_level=20)
    got = {frozenset(pairs.names[i] for i in ij): float(s) for ij, s in zip(pairs.index, pairs.similarity)}
    assert got[frozenset("xz")] == pytest.approx(0.7)
    assert got[frozenset("xy")] == pytest.approx(0.5)


def test_codes_that_are_too_short_and_lines_without_a_class_are_told(tmp_path):
    with pytest.raises(StateshiftError, match=r"Classes need 4 parts, as in a\.1\.1\.2 or 1\.10\.10\.10; others: x"):
        class_pairs({"x": "a.1", "y": "a.1.1.1"}, 5)
    (tmp_path / "c.tsv").write_text("x\ta.1.1.1\nalone\nx\tb.1.1.1\n")
    with pytest.raises(InputProblems, match=r"(?s)line 2 reads `alone`.*line 3: `x` is of a\.1\.1\.1 further up"):
        read_classes(tmp_path / "c.tsv")


def test_draws_by_weight_share_every_interval_alike():
    similarity = np.array([0.2] * 960 + [0.5] * 30 + [0.91] * 10, dtype=np.float32)
    pairs = Pairs(["a", "b"], np.zeros((1000, 2), int), similarity)
    weights = pairs.weights()
    chance = weights / weights.sum()
    for value in (0.2, 0.5, 0.91):
        assert chance[similarity == np.float32(value)].sum() == pytest.approx(1 / 3)


def test_pairs_among_some_names_hold_no_other():
    pairs = Pairs(list("abc"), np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.1, 0.2, 0.3], np.float32))
    kept = pairs.among({"a", "c"})
    np.testing.assert_array_equal(kept.index, [[0, 2]])
    np.testing.assert_allclose(kept.similarity, [0.3])
