"""The tests and the agreement of genes beside the challenge's own packages, where they are installed."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.evaluation.significance import (
    CELL_EVAL_NAMES,
    agreement,
    count_correlation,
    rank_sum_test,
    sorted_controls,
)

SIZES = {"g0": 1, "g1": 2, "g2": 3, "g3": 40, "g4": 60, "g5": 50, "g6": 50, "ctrl": 90}
LABELS = np.repeat(list(SIZES), list(SIZES.values()))
NAMES = sorted(set(SIZES) - {"ctrl"})


def counts(seed: int, share: float, genes: int = 300) -> np.ndarray:
    """Counts in which a third of the genes respond, `share` as strongly as they truly do; one gene is never seen."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(1, 1, genes)
    base[7] = 0
    effects = {name: rng.normal(0, 1.5, genes) * (rng.random(genes) < 0.3) * (name != "ctrl") for name in SIZES}
    drawn = np.random.default_rng(seed + (share < 1)).poisson
    found = drawn(np.stack([base * np.exp(share * effects[label]) for label in LABELS]))
    controls = np.random.default_rng(seed).poisson(base, (SIZES["ctrl"], genes))
    found[LABELS == "ctrl"] = controls
    return found.astype(float)


def log1p(counts: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)


def annotated(X) -> ad.AnnData:
    obs = pd.DataFrame({"target": LABELS}, index=[str(i) for i in range(len(LABELS))])
    return ad.AnnData(X=X, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(X.shape[1])]))


def compared(X, scale="log1p", **more):
    def rows(label):
        return X[np.flatnonzero(label == LABELS)]

    return rank_sum_test(rows, NAMES, sorted_controls(rows("ctrl"), scale), **more)


def wide(frame, value: str, genes) -> np.ndarray:
    return frame.to_pandas().pivot(index="target", columns="feature", values=value).loc[NAMES, genes].to_numpy(float)


@pytest.mark.parametrize(
    ("form", "precision", "values"),
    [(csr_matrix, np.float32, log1p), (csr_matrix, np.float64, np.log1p), (np.asarray, np.float32, log1p)],
    ids=["sparse", "tied", "dense"],
)
def test_p_values_rates_and_fold_changes_are_pdexs(form, precision, values):
    pdex = pytest.importorskip("pdex", reason="the official extra is not installed").pdex
    X = form(values(counts(1, 1.0)).astype(precision))
    adata = annotated(X)
    frame = pdex(adata, groupby="target", reference="ctrl", is_log1p=True, epsilon=0.0, threads=1)
    found = compared(X)
    np.testing.assert_allclose(found.p_values, wide(frame, "p_value", adata.var_names), rtol=1e-9)
    np.testing.assert_allclose(found.fdr, wide(frame, "fdr", adata.var_names), rtol=1e-9)
    theirs = wide(frame, "log2_fold_change", adata.var_names)
    assert np.isinf(theirs).any()
    np.testing.assert_allclose(found.fold_changes, theirs, rtol=1e-9)


@pytest.mark.parametrize("precision", [np.float32, np.int64])
def test_counts_give_what_cell_eval2_computes(precision):
    compute = pytest.importorskip("cell_eval2.de_compute", reason="the official extra is not installed").compute_de
    X = csr_matrix(counts(2, 1.0).astype(precision))
    adata = annotated(X)
    frame = compute(
        adata, backend="pdex", groupby="target", reference="ctrl", mean_calc="arithmetic", epsilon=1e-9,
        input_type="counts", filter_gene_min_cpm_cell=900.0, threads=1,
    )  # fmt: skip
    found = compared(X, "counts", fewest_cpm=900.0)
    kept = adata.var_names[found.tested]
    assert sorted(frame["feature"].unique()) == sorted(kept)
    assert 0 < len(kept) < adata.n_vars
    for ours, theirs in ((found.p_values, "p_value"), (found.fdr, "p_adj"), (found.fold_changes, "log2_fold_change")):
        np.testing.assert_allclose(ours[:, found.tested], wide(frame, theirs, kept), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("form", "values"), [(csr_matrix, log1p), (np.asarray, lambda x: np.log1p(x / 3))])
def test_the_agreement_of_genes_is_cell_evals(form, values, tmp_path, caplog):
    cell_eval = pytest.importorskip("cell_eval", reason="the official extra is not installed")
    caplog.set_level(logging.CRITICAL)
    drawn = [counts(3, share) for share in (1.0, 0.6)]
    # infinite fold changes tie, and cell-eval leaves ties to an unstable sort
    seen = np.all([side[LABELS == "ctrl"].any(axis=0) for side in drawn], axis=0)
    true, predicted = (form(values(side[:, seen]).astype(np.float32)) for side in drawn)
    evaluator = cell_eval.MetricsEvaluator(
        annotated(predicted),
        annotated(true),
        control_pert="ctrl",
        pert_col="target",
        num_threads=1,
        outdir=str(tmp_path / "o"),
    )
    theirs = evaluator.compute(profile="de", write_csv=False, break_on_error=True)[0].to_pandas()
    theirs = theirs.set_index("perturbation").loc[NAMES]
    ours = agreement(compared(predicted), compared(true))
    assert ours["n_true"].min() < 5
    assert ours["des"].max() > 0.3
    for name, official in CELL_EVAL_NAMES.items():
        np.testing.assert_allclose(ours[name].astype(float), theirs[official].astype(float), atol=1e-6, err_msg=name)
    assert count_correlation(ours) == pytest.approx(theirs["de_spearman_sig"].iloc[0])
