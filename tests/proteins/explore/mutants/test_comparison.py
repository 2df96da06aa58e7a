"""Mutants beside their wild type, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.explore.mutants.comparison import compare_mutants, cosines
from stateshift.proteins.explore.stored.embeddings import Embeddings, read_embeddings

SEQUENCES = {
    "WT": "MKVLAG",
    "a": "AKVLAG",
    "b": "MKVAAG",
    "c": "MKVLAE",
    "two": "AKVLAE",
    "gap": "MKVLG",
    "same": "MKVLAG",
}


@pytest.fixture
def made():
    """Rows along the x axis in the wild type; a mutant's changed residues point along the y axis."""
    rows = {}
    for id, sequence in SEQUENCES.items():
        rows[id] = np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(sequence), 1))
        for i, (x, y) in enumerate(zip(sequence, SEQUENCES["WT"])):
            if x != y and id != "gap":
                rows[id][i] = (0.0, 1.0)
    return Embeddings("made", "made", rows, {id: r.mean(0) for id, r in rows.items()})


def test_every_mutant_has_its_change_position_third_and_distances(made):
    table = compare_mutants(SEQUENCES, "WT", made).table.set_index("id")
    assert table["change"].to_dict() == {
        "a": "p.Met1Ala",
        "b": "p.Leu4Ala",
        "c": "p.Gly6Glu",
        "two": "p.[Met1Ala;Gly6Glu]",
        "gap": "p.Ala5del",
        "same": "p.=",
    }
    assert table.loc[["a", "b", "c"], "position"].tolist() == [1, 4, 6]
    assert table["position"].isna().sum() == 3
    assert table.loc[["a", "b", "c", "two"], "third"].tolist() == ["start", "middle", "end", ""]
    np.testing.assert_allclose(table.loc[["a", "b", "c"], "cosine"], 5 / np.sqrt(26))
    np.testing.assert_allclose(table.loc["a", "distance"], np.sqrt(2) / 6, rtol=1e-6)
    np.testing.assert_allclose(table.loc["two", "cosine"], 4 / np.sqrt(20))
    np.testing.assert_allclose(table.loc[["a", "b", "c"], "cosine_at_site"], 0, atol=1e-12)
    np.testing.assert_allclose(table.loc[["gap", "same"], ["cosine", "distance"]], [[1, 0], [1, 0]])


def test_thirds_count_single_substitutions_alone_and_the_rest_is_noted(made):
    seen = compare_mutants(SEQUENCES, "WT", made)
    assert seen.thirds["mutants"].tolist() == [1, 1, 1]
    assert seen.thirds["furthest"].tolist() == ["p.Met1Ala", "p.Leu4Ala", "p.Gly6Glu"]
    np.testing.assert_allclose(seen.thirds["mean_cosine"], 5 / np.sqrt(26))
    assert seen.notes == (
        "several substitutions: two is left out of the thirds.",
        "indel: gap is left out of the thirds.",
        "identical: same is left out of the thirds.",
    )


def test_the_change_along_the_sequence_is_there_for_mutants_as_long_as_the_wild_type(made):
    profiles = compare_mutants(SEQUENCES, "WT", made).profiles
    assert sorted(profiles) == ["a", "b", "c", "same", "two"]
    np.testing.assert_allclose(profiles["two"], [1, 0, 0, 0, 0, 1], atol=1e-12)


def test_rows_of_BOS_and_EOS_are_taken_off_before_positions_are_counted(made):
    ends = np.full((1, 2), 9.0, dtype=np.float32)
    longer = {id: np.concatenate([ends, made.residues[id], ends]) for id in SEQUENCES}
    with_ends = Embeddings("made", "made", longer, made.proteins)
    for column in ("cosine", "cosine_at_site"):
        np.testing.assert_array_equal(
            compare_mutants(SEQUENCES, "WT", with_ends).table[column],
            compare_mutants(SEQUENCES, "WT", made).table[column],
        )


def test_a_level_that_is_not_there_is_made_up_for_or_left_out_and_said(made):
    of_residues = compare_mutants(SEQUENCES, "WT", Embeddings("made", "made", made.residues))
    np.testing.assert_allclose(
        of_residues.table["cosine"], compare_mutants(SEQUENCES, "WT", made).table["cosine"], rtol=1e-6
    )
    assert "mean over its residues" in of_residues.notes[0]
    of_proteins = compare_mutants(SEQUENCES, "WT", Embeddings("made", "made", {}, made.proteins))
    assert of_proteins.table["cosine_at_site"].isna().all()
    assert (of_proteins.profiles, "no residue level" in of_proteins.notes[0]) == ({}, True)


def test_the_wild_types_name_is_suggested_where_it_is_missing(made):
    with pytest.raises(StateshiftError, match=r"No sequence is called `wt` \(did you mean `WT`\?\)"):
        compare_mutants(SEQUENCES, "wt", made)
    with pytest.raises(StateshiftError, match="`WT` is alone"):
        compare_mutants({"WT": "MKV"}, "WT", made)


def test_absent_embeddings_and_rows_of_other_lengths_are_all_named(made):
    rows = {**made.residues, "a": np.ones((9, 2)), "b": np.ones((3, 2))}
    del rows["c"], rows["two"]
    proteins = {("cc" if id == "c" else id): vector for id, vector in made.proteins.items()}
    with pytest.raises(InputProblems) as caught:
        compare_mutants(SEQUENCES, "WT", Embeddings("made", "made", rows, proteins))
    assert caught.value.problems == [
        "no embedding of c (did you mean `cc`?).",
        "no residue embedding of two.",
        "residue rows that are neither L nor L + 2: a (9 rows, L = 6), b (3 rows, L = 6). Were they made of other "
        "sequences?",
    ]


def test_a_store_of_ours_serves(store, sequences, rows):
    table = compare_mutants(sequences, "WT", read_embeddings(store)).table.set_index("id")
    expected = cosines(rows["M2_6"][5], rows["WT"][5])[0]
    np.testing.assert_allclose(table.loc["M2_6", "cosine_at_site"], expected, rtol=1e-6)
    assert table.loc["sp|P1|A", "kind"] == "unrelated"


def test_a_store_of_other_sequences_does_not_serve_even_where_lengths_agree(store, sequences):
    changed = sequences | {"M2_6": "MKVLADW", "sp|P1|A": "MK"}
    with pytest.raises(InputProblems) as caught:
        compare_mutants(changed, "WT", read_embeddings(store))
    assert caught.value.problems == ["M2_6, sp|P1|A: embedded as other sequences than the FASTA has by these names."]
