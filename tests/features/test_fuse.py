"""Tables fused into one."""

from __future__ import annotations

import json
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import fuse_features
from stateshift.features.table_files import read_vectors


@pytest.fixture
def tables(tmp_path):
    """Two tables of other widths and gene sets: D is only in the second, A only in the first."""
    rng = np.random.default_rng(0)
    first = np.column_stack([rng.standard_normal((3, 3)) * [1, 100, 1], np.ones(3)])
    FeatureTable(list("ABC"), first, {"source": "esm2"}).save(tmp_path / "a.pt")
    second = rng.standard_normal((3, 2))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    FeatureTable(list("BCD"), second, {"source": "gene_sets", "comparable_rows": True}).save(tmp_path / "b.pt")
    return tmp_path / "a.pt", tmp_path / "b.pt"


def test_a_row_that_is_longer_than_others_stays_so(tables, tmp_path):
    fused = fuse_features(tables, tmp_path / "f.pt", weights="3,1")
    a = FeatureTable.load(tables[0])
    standard = (a.vectors[:, :3] - a.vectors[:, :3].mean(axis=0)) / a.vectors[:, :3].std(axis=0)
    start, end = fused.provenance["parts"][0]["columns"]
    found, expected = (np.linalg.norm(x, axis=1) for x in (fused.subset(a.genes).vectors[:, start:end], standard))
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-5)
    assert np.ptp(expected) > 0.1
    assert (found**2).mean() == pytest.approx(0.75)


def test_similarity_in_the_fused_table_is_the_weighted_mean_of_both(tables, tmp_path):
    fused = fuse_features(tables, tmp_path / "f.pt", weights="3,1")
    a, b = (FeatureTable.load(path) for path in tables)
    standard = (a.vectors[:, :3] - a.vectors[:, :3].mean(axis=0)) / a.vectors[:, :3].std(axis=0)
    standard /= np.sqrt((standard**2).sum(axis=1).mean())
    assert (fused.genes, fused.width) == (list("ABCD"), 5)
    rows = fused.subset("BC").vectors
    expected = 0.75 * standard[1] @ standard[2] + 0.25 * b.vectors[0] @ b.vectors[1]
    np.testing.assert_allclose(rows[0] @ rows[1], expected, atol=1e-5)
    np.testing.assert_allclose(rows[0] @ rows[0], 0.75 * standard[1] @ standard[1] + 0.25, atol=1e-5)
    np.testing.assert_allclose(fused.vectors[3, :3], 0)


def test_the_provenance_names_each_part_its_weight_and_the_genes_it_lacks(tables, tmp_path):
    fuse_features(tables, tmp_path / "f.pt", weights=[3, 1])
    told = json.loads((tmp_path / "f.pt.json").read_text())
    first, second = told["parts"]
    assert (first["file"], first["weight"], first["constant_columns"], first["lacks"]) == ("a.pt", 0.75, 1, ["D"])
    assert (second["weight"], second["lacks"], second["coverage"]) == (0.25, ["A"], 0.75)
    assert (first["columns"], second["columns"]) == ([0, 3], [3, 5])


def test_reduced_products_are_those_of_the_best_approximation(tmp_path):
    rng = np.random.default_rng(1)
    for name in "ab":
        FeatureTable([f"G{i}" for i in range(30)], rng.standard_normal((30, 8))).save(tmp_path / f"{name}.pt")
    whole = fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "w.pt")
    reduced = fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "r.pt", width=5)
    values, vectors = np.linalg.eigh((whole.vectors @ whole.vectors.T).astype(float))
    best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    assert reduced.width == 5
    assert not any("columns" in part for part in reduced.provenance["parts"])
    np.testing.assert_allclose(reduced.vectors @ reduced.vectors.T, best, atol=1e-3)


def test_what_a_policy_filled_in_counts_as_missing(tmp_path):
    provenance = {"missing_policy": {"C": "mean"}}
    FeatureTable(list("ABC"), [[1, 0], [0, 1], [0.5, 0.5]], provenance).save(tmp_path / "a.pt")
    FeatureTable(list("ABC"), [[1, 0], [0, 1], [1, 1]]).save(tmp_path / "b.pt")
    fused = fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "f.pt")
    np.testing.assert_array_equal(fused.vectors[2, :2], 0)
    assert fused.provenance["parts"][0]["lacks"] == ["C"]


def test_a_table_that_covers_little_is_told_of(tmp_path, caplog):
    rng = np.random.default_rng(2)
    FeatureTable([f"G{i}" for i in range(100)], rng.standard_normal((100, 3))).save(tmp_path / "a.pt")
    FeatureTable(["G1", "G2", "G5"], rng.standard_normal((3, 2))).save(tmp_path / "b.pt")
    with caplog.at_level(logging.WARNING):
        fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "f.pt")
    assert "b.pt holds 3 of 100 genes (3 %): it tells little" in caplog.text


def test_constant_tables_are_refused(tables, tmp_path):
    FeatureTable(list("AB"), np.ones((2, 3))).save(tmp_path / "c.pt")
    with pytest.raises(StateshiftError, match=r"c\.pt: every column is constant"):
        fuse_features([tables[0], tmp_path / "c.pt"], tmp_path / "f.pt")
    assert not (tmp_path / "f.pt").exists()


@pytest.mark.parametrize(
    ("weights", "told"),
    [("1", "2 positive numbers"), ("1,x", "positive numbers"), ("1,-1", "positive"), ("0,1", "positive")],
)
def test_weights_that_do_not_fit_are_refused(tables, tmp_path, weights, told):
    with pytest.raises(InputProblems, match=told):
        fuse_features(tables, tmp_path / "f.pt", weights=weights)


def test_one_table_alone_or_twice_is_refused(tables, tmp_path):
    with pytest.raises(InputProblems, match="two or more"):
        fuse_features(tables[:1], tmp_path / "f.pt")
    with pytest.raises(InputProblems, match="named twice"):
        fuse_features([tables[0], tables[0]], tmp_path / "f.pt")


def test_npz_and_h5ad_hold_the_same_table(tmp_path):
    vectors = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    np.savez(tmp_path / "t.npz", genes=np.array(list("ABC")), vectors=vectors)
    ad.AnnData(vectors, obs=pd.DataFrame(index=list("ABC"))).write_h5ad(tmp_path / "t.h5ad")
    np.savez(tmp_path / "bytes.npz", genes=np.array([b"A", b"B", b"C"]), vectors=vectors)
    for name in ("t.npz", "bytes.npz", "t.h5ad"):
        table = read_vectors(tmp_path / name)
        assert table.genes == list("ABC")
        np.testing.assert_array_equal(table.vectors, vectors)


def test_bad_tables_are_refused_with_all_that_is_wrong(tmp_path):
    np.savez(tmp_path / "t.npz", genes=np.array(["A", "A", "B"]), vectors=np.array([[1, np.nan], [1, 2], [3, 4]]))
    with pytest.raises(InputProblems) as caught:
        read_vectors(tmp_path / "t.npz")
    assert len(caught.value.problems) == 2
    np.savez(tmp_path / "p.npz", genes=np.array(["A", "B"], dtype=object), vectors=np.ones((2, 2)))
    with pytest.raises(StateshiftError, match="can't be read safely"):
        read_vectors(tmp_path / "p.npz")
    np.savez(tmp_path / "n.npz", vectors=np.ones((2, 2)))
    with pytest.raises(StateshiftError, match=r"one array of names .*vectors float64"):
        read_vectors(tmp_path / "n.npz")
    with pytest.raises(StateshiftError, match=r"t\.pickle: a table of vectors is read from"):
        read_vectors(tmp_path / "t.pickle")


def test_a_gene_that_was_filled_in_everywhere_is_missing_and_not_zero(tmp_path):
    for name, vectors in (("a", [[1, 0], [0, 1], [0, 0]]), ("b", [[0, 1], [1, 0], [0.5, 0.5]])):
        FeatureTable(list("ABC"), vectors, {"missing_policy": {"C": "mean"}}).save(tmp_path / f"{name}.pt")
    fused = fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "f.pt")
    assert (fused.genes, list(fused.provenance["missing"])) == (["A", "B"], ["C"])
    with pytest.raises(StateshiftError, match="No feature vector for C"):
        fused.matrix(["A+C"])


def test_tables_that_share_no_gene_are_told_of(tmp_path, caplog):
    rng = np.random.default_rng(3)
    FeatureTable([f"G{i}" for i in range(4)], rng.standard_normal((4, 3))).save(tmp_path / "a.pt")
    FeatureTable(["ENSG1", "ENSG2"], rng.standard_normal((2, 2))).save(tmp_path / "b.pt")
    with caplog.at_level(logging.WARNING):
        fuse_features([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "f.pt")
    assert (
        "b.pt shares no gene with the other tables (ENSG1, ENSG2 there, G0, G1, G2 and 1 more in others)" in caplog.text
    )


def test_the_command_tells_of_constant_columns(tables, tmp_path):
    from typer.testing import CliRunner

    from stateshift.cli.main import app

    done = CliRunner().invoke(app, ["features", "fuse", *map(str, tables), "-o", str(tmp_path / "f.pt")])
    assert "a.pt: 3 genes (75%), weight 0.50, 1 constant column left out." in done.output
