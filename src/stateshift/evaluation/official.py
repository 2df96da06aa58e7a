"""The challenge's own scores through cell-eval 0.8: DES, PDS, MAE and the baseline-normalised score."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.errors import StateshiftError
from stateshift.evaluation.pairing import Controls, Pairing
from stateshift.progress import track

if TYPE_CHECKING:
    import polars as pl
    from anndata import AnnData

TARGET, CONTROL = "target_gene", "non-targeting"
NAMES = {"overlap_at_N": "des", "discrimination_score_l1": "pds", "mae": "mae"}
BASELINE = "cell-eval's baseline (mean of the truth)"


def refuse_without_cell_eval() -> None:
    """A StateshiftError where cell-eval is not installed."""
    try:
        import cell_eval  # noqa: F401
    except ImportError as error:
        raise StateshiftError(
            "The official scores need cell-eval, which is not installed: pip install 'stateshift[official]'."
        ) from error


def official_scores(
    predicted: Cells, truth: Cells, pairing: Pairing, controls: Controls = "truth", threads: int = 1
) -> tuple[pd.DataFrame, list[str]]:
    """cell-eval's ``vcc`` profile of the prediction and of its own baseline, one context at a time.

    That baseline is an oracle: ``build_base_mean_adata`` gives every perturbation the mean of the *truth's*
    group means (its perturbations', the control's counted as one of them), which no honest model could know.

    Both sides hold the pairing's perturbations and genes, and the truth's controls or each its own. The tool normalises what it
    is given in place and swallows errors of single metrics: it gets copies, and errors are raised.

    Parameters
    ----------
    predicted, truth
        Log1p cells on the pairing's genes, their perturbations under its names.
    pairing
        The shared (context, perturbation) pairs.
    controls
        ``truth`` puts the truth's controls on both sides; ``own`` leaves the prediction its own.
    threads
        Threads of the differential expression test.

    Returns
    -------
    tuple
        A table with one row a (context, model) and the columns ``des`` (overlap_at_N), ``pds``
        (discrimination_score_l1), ``mae`` and ``score`` (cell-eval's ``score_agg_metrics``: mean of
        (u − b) / (1 − b), and 1 − u / b for MAE, each at least 0); and sentences on contexts left out.

    Raises
    ------
    StateshiftError
        The extra ``official`` is not installed, no context can be scored, or cell-eval refuses the cells.
    """
    refuse_without_cell_eval()
    tables, notes = [], []
    for context, rows in track(list(pairing.rows.groupby("context")), "cell-eval"):
        perturbations = set(rows["perturbation"])
        if len(perturbations) < 2:
            notes.append(f"{context}: cell-eval's scores need two perturbations; it has one and was left out.")
            continue
        real = side_of(truth, context, perturbations | {truth.control}, truth.control)
        if controls == "own":
            cells = side_of(predicted, context, perturbations | {predicted.control}, predicted.control)
        else:
            cells = side_of(predicted, context, perturbations, None)
            cells = _joined(cells, real[real.obs[TARGET] == CONTROL])
        try:
            tables.append(_one_context(context, cells, real, threads))
        except (ValueError, KeyError, IndexError) as error:
            raise StateshiftError(f"cell-eval could not score the context `{context}`: {error}") from error
    if not tables:
        raise StateshiftError("cell-eval's scores need a context with two or more perturbations: there is none.")
    return pd.concat(tables, ignore_index=True), notes


def side_of(cells: Cells, context: str, perturbations: set[str], control: str | None) -> AnnData:
    """A context's cells of some perturbations as cell-eval wants them, the control under the season's name."""
    import anndata as ad

    keep = np.flatnonzero((cells.obs["context"] == context) & cells.obs["perturbation"].isin(perturbations))
    labels = cells.obs["perturbation"].iloc[keep].replace({control: CONTROL} if control else {})
    obs = pd.DataFrame({TARGET: labels.to_numpy(dtype=object)}, index=[str(i) for i in range(len(keep))])
    return ad.AnnData(X=cells.X.csr(keep), obs=obs, var=pd.DataFrame(index=pd.Index(cells.genes)))


def _joined(cells: AnnData, controls: AnnData) -> AnnData:
    import anndata as ad

    return ad.concat({"predicted": cells, "controls": controls}, index_unique="-")


def _one_context(context: str, predicted: AnnData, real: AnnData, threads: int) -> pd.DataFrame:
    from cell_eval import build_base_mean_adata, score_agg_metrics

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        baseline = build_base_mean_adata(real.copy(), pert_col=TARGET, control_pert=CONTROL)
        ours = _aggregate(predicted, real.copy(), folder, threads)
        base = _aggregate(baseline, real.copy(), folder, threads)
        scored = score_agg_metrics(ours, base)
    score = dict(zip(scored["metric"].to_list(), scored["from_baseline"].to_list()))["avg_score"]
    rows = []
    for model, table, value in (("prediction", ours, score), (BASELINE, base, 0.0)):
        means = table.row(table["statistic"].to_list().index("mean"), named=True)
        rows.append({"context": context, "model": model, **{n: means[m] for m, n in NAMES.items()}, "score": value})
    return pd.DataFrame(rows)


def _aggregate(predicted: AnnData, real: AnnData, folder: str, threads: int) -> pl.DataFrame:
    from cell_eval import MetricsEvaluator

    evaluator = MetricsEvaluator(
        adata_pred=predicted,
        adata_real=real,
        control_pert=CONTROL,
        pert_col=TARGET,
        num_threads=threads,
        outdir=folder,
    )
    return evaluator.compute(profile="vcc", write_csv=False, break_on_error=True)[1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tool's bars on standard error, and its chatter below errors."""
    logger = logging.getLogger("cell_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
