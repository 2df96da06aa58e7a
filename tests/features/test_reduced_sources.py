"""Sources that reduce: gene sets, networks, symbols, co-expression, screens; each beside its definition."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfTransformer

from stateshift.errors import InputProblems, StateshiftError
from stateshift.features import FeatureRequest, build_features


@pytest.fixture
def ask(tmp_path):
    def ask(source, genes, lookup=None, **options):
        return build_features(FeatureRequest(genes, tmp_path / "f.pt", lookup=lookup, **options), source)

    return ask


def cosines(table):
    return table.vectors @ table.vectors.T


def test_genes_in_the_same_rare_sets_are_as_alike_as_their_tf_idf_rows(ask, tmp_path):
    sets = {"RARE": "AB", "COMMON": "ABCD", "OTHER": "CD", "ALONE": "D"}
    (tmp_path / "s.gmt").write_text("".join(f"{n}\tx\t" + "\t".join(g) + "\n" for n, g in sets.items()))
    counted = np.array([[g in members for members in sets.values() if len(members) > 1] for g in "ABCD"], dtype=float)
    expected = TfidfTransformer().fit_transform(counted).toarray()
    table = ask("gene_sets", list("DCBA"), tmp_path / "s.gmt")
    np.testing.assert_allclose(cosines(table), (expected @ expected.T)[::-1, ::-1], atol=1e-5)


def test_gene_sets_find_genes_by_their_old_symbols_where_hgncs_table_is_given(ask, tmp_path):
    (tmp_path / "s.gmt").write_text("S\tx\tATP5A1\tB\nT\tx\tB\tC\n")
    columns = ["symbol", "alias_symbol", "prev_symbol", "ensembl_gene_id"]
    (tmp_path / "hgnc.txt").write_text("\t".join(columns) + "\nATP5F1A\t\tATP5A1\tENSG00000152234\n")
    with pytest.raises(StateshiftError, match="ATP5F1A: in none of the gene sets"):
        ask("gene_sets", ["ATP5F1A"], tmp_path / "s.gmt")
    table = ask("gene_sets", ["ATP5F1A", "B"], tmp_path / "s.gmt", aliases=tmp_path / "hgnc.txt")
    assert table.provenance["matched_by"] == {"ATP5F1A": "ATP5A1"}
    assert table.genes == ["ATP5F1A", "B"]


def test_all_that_is_wrong_with_a_gmt_is_told_at_once_by_line(ask, tmp_path):
    (tmp_path / "s.gmt").write_text("S\tx\tA\tB\nT\tx\n\nS\tx\tB\tC\n")
    with pytest.raises(InputProblems) as caught:
        ask("gene_sets", ["A"], tmp_path / "s.gmt")
    assert [p.split(":")[0] for p in caught.value.problems] == ["lines without a gene", "sets that occur twice"]
    assert "lines without a gene: 2;" in str(caught.value)
    assert "S (line 4)" in str(caught.value)


def test_two_components_of_a_network_are_at_right_angles_and_a_triangle_is_one_point(ask, tmp_path):
    edges = "a\tb\tw\nA\tB\t1\nB\tA\t1\nB\tC\t1\nA\tC\t1\nX\tY\t1\nA\tA\t9\n"
    (tmp_path / "e.tsv").write_text(edges)
    table = ask("network", list("ABCXY"), tmp_path / "e.tsv", width=2)
    expected = np.kron(np.eye(2), np.ones((3, 3)))[:5, :5]
    np.testing.assert_allclose(cosines(table), expected, atol=1e-5)


def test_an_edge_listed_twice_counts_once_whichever_gene_comes_first(ask, tmp_path):
    path, alike = tmp_path / "e.tsv", []
    for twice in ("A\tB\t3\nB\tA\t2", "A\tB\t2\nA\tB\t3", "B\tA\t3"):
        path.write_text(f"a\tb\tw\n{twice}\nB\tC\t1\nC\tD\t2\n")
        alike.append(cosines(ask("network", list("ABCD"), path, width=4)))
    np.testing.assert_allclose(alike[1:], alike[:-1], atol=1e-6)


def test_bad_weights_empty_names_and_loops_are_told_by_line(ask, tmp_path):
    (tmp_path / "e.csv").write_text("a,b,w\nA,B,high\nA,,1\nC,C,-2\n")
    with pytest.raises(InputProblems) as caught:
        ask("network", ["A"], tmp_path / "e.csv")
    assert "`w` is no positive number in lines 2, 4" in str(caught.value)
    assert "name is empty in lines 3" in str(caught.value)


def test_symbols_of_one_family_are_alike_and_a_name_of_its_own_is_missing(ask):
    table = ask("symbol", ["RPL3", "RPL4", "PSMA1", "PSMB2", "TP53"], missing="drop")
    alike = cosines(table)
    assert alike[0, 1] > 0.5
    assert alike[2, 3] > 0.2
    np.testing.assert_allclose(alike[:2, 2:], 0, atol=1e-5)
    assert table.provenance["missing"] == {"TP53": "no other gene's symbol begins alike"}


def test_co_expression_is_the_correlation_over_control_cells_within_contexts(ask, tmp_path):
    rng = np.random.default_rng(0)
    n, names = 200, ["A", "B", "C", "FLAT"]
    context, control = np.repeat(["k", "l"], n // 2), np.arange(n) % 4 != 0
    factor = rng.standard_normal(n)
    X = 3 + np.stack([factor, 2 * factor + 0.5 * rng.standard_normal(n), rng.standard_normal(n)], axis=1) / 5
    X[context == "l"] += 1
    X[~control] = rng.random((n - control.sum(), 3)) * 5
    X = np.column_stack([X, np.full(n, 2.0)]).astype(np.float32)
    obs = pd.DataFrame({"target_gene": np.where(control, "non-targeting", "T"), "cell_type": context})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(X, obs=obs, var=pd.DataFrame(index=names), uns={"log1p": {"base": None}})
    adata.write_h5ad(tmp_path / "c.h5ad")
    table = ask("expression", names, tmp_path / "c.h5ad", missing="drop")
    within = pd.DataFrame(X[control, :3]).groupby(context[control]).transform(lambda x: x - x.mean())
    np.testing.assert_allclose(cosines(table), np.corrcoef(within.to_numpy().T), atol=1e-3)
    assert table.provenance["missing"] == {"FLAT": "constant in the control cells"}


def test_too_few_control_cells_are_refused(ask, tmp_path, cell_maker):
    cell_maker(tmp_path / "c.h5ad", contexts=["K562"], n_cells=12)
    with pytest.raises(StateshiftError, match=r"holds 12 control cells .*needs 20 or more"):
        ask("expression", ["GENE1"], tmp_path / "c.h5ad")


def test_a_screens_vectors_are_the_cosines_of_deviations_from_each_contexts_mean(ask, tmp_path):
    effects = {"A": [1, 2, 0], "B": [1, 3, 1], "C": [4, 1, 2]}
    rows = [
        f"{p},{c},g{j},{v + shift}"
        for c, shift in (("k", 0), ("l", 5))
        for p, e in effects.items()
        for j, v in enumerate(e)
    ]
    (tmp_path / "e.csv").write_text("\n".join(["perturbation,context,gene,value", *rows]) + "\n")
    table = ask("screen", list("ABC"), tmp_path / "e.csv")
    E = np.array(list(effects.values()), dtype=float)
    E = (E - E.mean(axis=0)) / E.std(axis=0)
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(table), E @ E.T, atol=1e-5)
    assert table.provenance["measured_effects"] is True


def test_a_screen_of_few_calls_is_refused_with_the_way_out(ask, tmp_path):
    (tmp_path / "e.csv").write_text("perturbation,gene,value\nA,g,1\nB,h,2\nC,i,3\n")
    with pytest.raises(StateshiftError, match="effects fit"):
        ask("screen", ["A"], tmp_path / "e.csv")


def test_random_vectors_belong_to_the_name_and_look_normal(ask):
    table = ask("random", [f"G{i}" for i in range(50)], width=400)
    assert abs(table.vectors.mean()) < 0.02
    assert abs(table.vectors.std() - 1) < 0.02
    assert abs(np.corrcoef(table.vectors) - np.eye(50)).max() < 0.25
