"""Predicted cells as an AnnData by the prediction contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift.cells import Cells
from stateshift.cells.matrix.scale import SIZE_FACTOR
from stateshift.effects.conformal import LEVEL
from stateshift.errors import StateshiftError
from stateshift.prediction.asked.requests import Request
from stateshift.prediction.asked.support import Support
from stateshift.prediction.intervals.half_widths import Intervals
from stateshift.prediction.network import Predicted

if TYPE_CHECKING:
    from anndata import AnnData

MOST = np.float32(np.log1p(SIZE_FACTOR))
"""Of log1p_1e4: a cell all of whose counts are of one gene."""


def assemble(
    cells: Cells,
    requests: list[Request],
    predicted: Iterable[Predicted],
    routes: list[str],
    support: Support,
) -> tuple[AnnData, np.ndarray]:
    """Predicted cells and the untouched controls as one AnnData, and the mean effects (R, G) of the requests.

    Intervals are left open (`add_intervals`). An effect is the mean of the predicted cells minus that of the very
    control cells that they start from.

    A predicted embedding lies in ``obsm["X_predicted"]``, with the controls' own.
    """
    import anndata as ad

    matrices, embeddings, frames, effects = [], [], [], []
    barcodes, output = cells.obs.index, cells.every_gene or cells
    told = zip(routes, support.regimes, support.n_sources, support.nearest, support.nearest_gene)
    for request, made, of in zip(requests, predicted, told):
        control = output.X.csr(request.controls)
        # a sparse cell that an effect scales may pass what a cell can hold of one gene
        genes = np.minimum(made.genes, MOST) if output.scale == "log1p_1e4" else made.genes
        if not np.isfinite(made.genes).all() or not (made.embedding is None or np.isfinite(made.embedding).all()):
            raise StateshiftError(
                f"The prediction for {request.perturbation} in {request.context} holds NaN or infinity, so it is refused: the "
                "model diverged, or its weights are damaged; take another --checkpoint, or train again."
            )
        matrix = csr_matrix(genes.astype(np.float32))
        if (matrix != control).nnz == 0:
            raise StateshiftError(
                f"The prediction for {request.perturbation} in {request.context} equals its control cells: nothing was "
                "predicted (no effect in training, or an untrained model), so it is refused."
            )
        names = request.perturbation + ":" + barcodes[request.controls]
        matrices.append(matrix)
        effects.append(genes.mean(axis=0) - np.asarray(control.mean(axis=0)).ravel())
        if made.embedding is not None:
            embeddings.append(made.embedding)
        frames.append(_obs(names, request.perturbation, request.context, False, *of))
    for context in sorted({r.context for r in requests}):
        rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
        matrices.append(output.X.csr(rows))
        if embeddings:
            embeddings.append(cells.X.dense(rows))
        frames.append(_obs(barcodes[rows], cells.control, context, True, "control", "", 0, np.nan, ""))
    obs = pd.concat(frames)
    for column in ("target_gene", "context", "route", "regime", "nearest_gene"):
        obs[column] = obs[column].astype("category")
    adata = ad.AnnData(vstack(matrices, format="csr"), obs=obs, var=pd.DataFrame(index=pd.Index(output.genes)))
    if embeddings:
        adata.obsm["X_predicted"] = np.concatenate(embeddings)
    adata.obs_names_make_unique()
    return adata, np.asarray(effects, dtype=np.float32)


def add_intervals(
    adata: AnnData,
    pairs: list[tuple[str, str]],
    support: Support,
    effects: np.ndarray,
    intervals: Intervals,
    genes: list[str],
) -> None:
    """Write obs ``interval`` and ``uns["stateshift"]["intervals"]`` for the R predicted (context, perturbation)."""
    mean = dict(zip(pairs, _row_means(intervals.half_widths)))
    of_cell = zip(adata.obs["context"], adata.obs["target_gene"])
    adata.obs["interval"] = np.array([mean.get(pair, np.nan) for pair in of_cell], dtype=np.float32)
    adata.uns["stateshift"]["intervals"] = {
        "level": LEVEL,
        "context": np.array([c for c, _ in pairs], dtype=object),
        "target_gene": np.array([p for _, p in pairs], dtype=object),
        "regime": np.array(support.regimes, dtype=object),
        "genes": np.array(genes, dtype=object),
        "effects": effects,
        "half_widths": intervals.half_widths,
        "of_mean": intervals.of_mean,
        "calibration": intervals.calibration,
    }


def _row_means(half_widths: np.ndarray) -> list[float]:
    known = ~np.isnan(half_widths)
    return [float(row[ok].mean()) if ok.any() else np.nan for row, ok in zip(half_widths, known)]


def _obs(
    names: pd.Index,
    target: str,
    context: str,
    is_control: bool,
    route: str,
    regime: str,
    n_sources: int,
    nearest: float,
    nearest_gene: str,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "target_gene": target,
            "context": context,
            "is_control": is_control,
            "route": route,
            "regime": regime,
            "n_sources": n_sources,
            "nearest": np.float32(nearest),
            "nearest_gene": nearest_gene,
            "interval": np.float32("nan"),
        },
        index=names,
    )
