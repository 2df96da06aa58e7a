"""What inspect says of a FASTA, of stored embeddings, and of both beside each other."""

from __future__ import annotations

import csv
import pickle

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.explore.stored.inspection import inspect_proteins


def stored(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def test_a_fasta_shows_ids_lengths_rare_letters_and_sequences_that_come_twice(tmp_path):
    (tmp_path / "x.fasta").write_text(">a one\nmkvXX\n>b\nMKU*\n>c\nMKU\n")
    seen = inspect_proteins(tmp_path / "x.fasta")
    assert seen.rows == [("a", 5, "one"), ("b", 3, ""), ("c", 3, "")]
    assert seen.facts == {
        "records": "3",
        "residues": "11",
        "length": "3 to 5, median 3",
        "rare letters": "X 2, U 2",
    }
    assert seen.notes == ["1 sequences come under several ids: b=c."]


def test_invalid_records_of_a_fasta_are_shown_and_are_all_problems(tmp_path):
    (tmp_path / "x.fasta").write_text(">good\nMKJ\n>stop\nM*KV\n>gap\nM-KV\n>hollow\n>number\nM1\n")
    seen = inspect_proteins(tmp_path / "x.fasta")
    assert [row[:2] for row in seen.rows] == [("good", 3), ("stop", 4), ("gap", 4), ("hollow", 0), ("number", 2)]
    assert seen.notes == ["J (leucine or isoleucine) is read as X: ESM2 has no such letter."]
    assert len(seen.problems) == 4
    for id, problem in zip(("stop", "gap", "hollow", "number"), seen.problems):
        assert f"`{id}`" in problem


def test_all_problems_of_records_and_ids_are_shown_together(tmp_path):
    (tmp_path / "x.fasta").write_text(">dup\nMKV\n>dup\nMKL\n" + "".join(f">r{i}\nM1\n" for i in range(25)))
    problems = inspect_proteins(tmp_path / "x.fasta").problems
    assert len(problems) == 26
    assert problems[-1] == "`dup` names two different sequences: give each an id of its own."


def test_one_id_of_two_sequences_is_a_problem_and_a_file_without_records_an_error(tmp_path):
    (tmp_path / "x.fasta").write_text(">a\nMKV\n>a\nMKL\n")
    assert inspect_proteins(tmp_path / "x.fasta").problems == [
        "`a` names two different sequences: give each an id of its own."
    ]
    (tmp_path / "empty.fasta").touch()
    with pytest.raises(StateshiftError, match="holds no FASTA record"):
        inspect_proteins(tmp_path / "empty.fasta")
    (tmp_path / "cut.fasta").write_text(">")
    with pytest.raises(StateshiftError, match="a record without a name"):
        inspect_proteins(tmp_path / "cut.fasta")


def test_a_store_shows_levels_shapes_and_how_it_was_made(store, fasta, tmp_path):
    seen = inspect_proteins(store, fasta)
    assert seen.kind == "store of stateshift"
    assert seen.rows[0] == ("WT", "7 × 4", "4", 7, "L")
    assert seen.facts["residue level"] == "4 ids, float32"
    assert (seen.notes, seen.problems) == (["made with made: layer 4.", "4 ids have L rows, one a residue."], [])
    seen.write_csv(tmp_path / "seen.csv")
    with (tmp_path / "seen.csv").open(newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle))[1] == ["WT", "7 × 4", "4", "7", "L"]


def test_missing_extra_and_wrong_lengths_are_all_told(tmp_path, fasta, sequences, rows):
    content = {"WT": rows["WT"], "M1_3": np.ones((9, 4), "f4"), "M2_6": np.ones((6, 4), "f4"), "other": rows["WT"]}
    seen = inspect_proteins(stored(tmp_path / "x.pkl", content), fasta)
    assert {row[0]: row[-1] for row in seen.rows} == {
        "WT": "L",
        "M1_3": "L + 2",
        "M2_6": "other length",
        "other": "extra",
    }
    assert seen.problems == [
        f"1 of 4 ids of {fasta} have no embedding: sp|P1|A.",
        f"1 ids are not in {fasta}: other.",
        "1 ids have neither L nor L + 2 rows: M2_6 (6 rows, L = 7).",
        "some ids have L rows and others L + 2: positions can't be read alike.",
    ]


def test_a_store_of_other_sequences_of_the_same_lengths_is_told_by_those_it_keeps(store, fasta, sequences):
    fasta.write_text("".join(f">{id}\n{'A' + s[1:] if id == 'M1_3' else s}\n" for id, s in sequences.items()))
    seen = inspect_proteins(store, fasta)
    assert seen.problems == [f"1 ids were embedded as other sequences than {fasta} has: M1_3."]
    assert [row[-1] for row in seen.rows] == ["L", "other sequence", "L", "L"]


def test_ids_that_share_nothing_with_the_fasta_are_one_problem(tmp_path, fasta):
    seen = inspect_proteins(stored(tmp_path / "x.pkl", {"wt": np.ones(4), "Q1": np.ones(4)}), fasta)
    assert seen.problems == [
        f"no id of {fasta} is in the file: ids there read WT, M1_3 and 2 more, here wt, Q1 (did you mean `wt`?)."
    ]


def test_odd_widths_absent_levels_and_values_that_are_no_numbers_are_problems(tmp_path):
    content = {
        "a": {"residue": np.ones((3, 4), "f4"), "protein": np.ones(4, "f4")},
        "b": {"protein": np.ones(5, "f2")},
        "c": {"residue": np.full((2, 4), np.nan, "f4"), "protein": np.ones(4, "f4")},
    }
    seen = inspect_proteins(stored(tmp_path / "x.pkl", content))
    assert seen.problems == [
        "widths differ: most are 4, not those of b (5).",
        "1 ids lack the residue level: b.",
        "1 ids hold values that are not finite: c.",
    ]
    assert seen.facts["protein level"] == "3 ids, float32, float16"
    assert seen.facts["keys"] == "residue (2), protein (3)"


def test_a_fasta_is_not_compared_with_a_fasta(fasta):
    with pytest.raises(StateshiftError, match="is a FASTA itself"):
        inspect_proteins(fasta, fasta)


def test_a_store_cut_short_is_refused_with_the_way_to_mend_it(store):
    whole = store.stat().st_size
    with store.open("r+b") as handle:
        handle.truncate(whole - 20)
    told = rf"x.h5 is cut short: {whole - 20:,} of {whole:,} bytes. .* name it x.h5.part and give the command"
    with pytest.raises(StateshiftError, match=told):
        inspect_proteins(store)
