"""Every single mutant: made, embedded once, resumed after a kill, and drawn where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import embed_proteins, load_esm2
from stateshift.proteins.explore.mutants.embedding import embed_once
from stateshift.proteins.explore.mutants.scan import AMINO_ACIDS, as_matrix, scan_mutants, single_mutants

WT = "MKTAYX"


@pytest.fixture(scope="module")
def esm():
    return load_esm2(precision="fp32")


def test_there_are_nineteen_mutants_a_residue_and_each_differs_in_one():
    mutants = single_mutants("MKTAY")
    assert len(mutants) == len(set(mutants.values())) == 95
    for name, sequence in mutants.items():
        differing = [i for i in range(5) if sequence[i] != "MKTAY"[i]]
        assert [f"{'MKTAY'[i]}{i + 1}{sequence[i]}" for i in differing] == [name]


def test_distances_are_those_of_embedding_each_mutant_alone(esm, tmp_path):
    table = scan_mutants(esm, WT, tmp_path / "scan.h5").set_index("id")
    assert len(table) == 5 * 19 + 20
    for id in ("M1A", "T3W", "X6C"):
        wt, mutant = (dict(embed_proteins(esm, {"": s}))[""] for s in (WT, single_mutants(WT)[id]))
        assert table.loc[id, "distance"] == pytest.approx(np.linalg.norm(mutant - wt), rel=1e-4)
        assert table.loc[id, "cosine"] == pytest.approx(
            mutant @ wt / np.linalg.norm(mutant) / np.linalg.norm(wt), rel=1e-5
        )
    assert table.loc["X6C", ["change", "position", "wt", "mutant", "third"]].tolist() == [
        "p.Xaa6Cys",
        6,
        "X",
        "C",
        "end",
    ]


def test_a_killed_scan_goes_on_and_a_whole_one_embeds_nothing(esm, tmp_path, monkeypatch):
    import stateshift.proteins.store.fill as fill

    real, embedded = fill.embed_group, []

    def dying(esm, texts, group, layer):
        for number, rows in real(esm, texts, group, layer):
            if len(embedded) == 40:
                raise KeyboardInterrupt
            embedded.append(texts[number])
            yield number, rows

    monkeypatch.setattr(fill, "embed_group", dying)
    with pytest.raises(KeyboardInterrupt):
        scan_mutants(esm, WT, tmp_path / "scan.h5", tokens_per_batch=1024)
    monkeypatch.setattr(
        fill, "embed_group", lambda *given: ((n, embedded.append(given[1][n]) or r) for n, r in real(*given))
    )
    resumed = scan_mutants(esm, WT, tmp_path / "scan.h5")
    assert len(embedded) == len(set(embedded)) == 116
    again = scan_mutants(esm, WT, tmp_path / "scan.h5")
    assert len(embedded) == 116
    np.testing.assert_array_equal(again["distance"], resumed["distance"])
    whole = scan_mutants(esm, WT, tmp_path / "other.h5")
    np.testing.assert_allclose(resumed["distance"], whole["distance"], atol=1e-5)


def test_a_store_of_another_protein_is_refused(esm, tmp_path):
    scan_mutants(esm, "MK", tmp_path / "scan.h5")
    with pytest.raises(StateshiftError, match="scan.h5 is of other sequences or another model"):
        scan_mutants(esm, "MR", tmp_path / "scan.h5")
    with pytest.raises(StateshiftError, match="is of other sequences or another model"):
        embed_once(esm, tmp_path / "scan.h5", {"WT": "MK", **single_mutants("MK")}, ("residue",))


def test_the_heat_map_has_a_hole_where_the_wild_type_stands(esm, tmp_path):
    table = scan_mutants(esm, "MKT", tmp_path / "scan.h5", score=True)
    matrix = as_matrix(table, "score")
    assert matrix.shape == (20, 3)
    assert [list(AMINO_ACIDS)[i] for i in np.isnan(matrix.to_numpy()).argmax(axis=0)] == ["M", "K", "T"]
    assert matrix.loc["A", 2] == table.set_index("id").loc["K2A", "score"]
