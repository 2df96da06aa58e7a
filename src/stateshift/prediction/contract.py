"""Predicted cells as an AnnData by the prediction contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift.cells import Cells, EffectTable
from stateshift.errors import StateshiftError
from stateshift.prediction.network import Predicted
from stateshift.prediction.requests import Request

if TYPE_CHECKING:
    from anndata import AnnData


def assemble(
    cells: Cells,
    requests: list[Request],
    predicted: Iterable[Predicted],
    routes: list[str],
    train: EffectTable | None,
) -> AnnData:
    """Predicted cells and the untouched controls as one AnnData; without `train`, no sources are counted.

    A predicted embedding lies in ``obsm["X_predicted"]``, with the controls' own.
    """
    import anndata as ad

    matrices, embeddings, frames = [], [], []
    barcodes, output = cells.obs.index, cells.every_gene or cells
    for request, made, route in zip(requests, predicted, routes):
        control = output.X.csr(request.controls)
        matrix = csr_matrix(made.genes.astype(np.float32))
        if (matrix != control).nnz == 0:
            raise StateshiftError(
                f"The prediction for {request.perturbation} in {request.context} equals its control cells: nothing was "
                "predicted (no effect in training, or an untrained model), so it is refused."
            )
        trained = zip(train.contexts, train.perturbations) if train else ()
        sources = {c for c, p in trained if p == request.perturbation}
        names = request.perturbation + ":" + barcodes[request.controls]
        matrices.append(matrix)
        if made.embedding is not None:
            embeddings.append(made.embedding)
        frames.append(_obs(names, request.perturbation, request.context, False, route, len(sources)))
    for context in sorted({r.context for r in requests}):
        rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
        matrices.append(output.X.csr(rows))
        if embeddings:
            embeddings.append(cells.X.dense(rows))
        frames.append(_obs(barcodes[rows], cells.control, context, True, "control", 0))
    obs = pd.concat(frames)
    for column in ("target_gene", "context", "route"):
        obs[column] = obs[column].astype("category")
    adata = ad.AnnData(vstack(matrices, format="csr"), obs=obs, var=pd.DataFrame(index=pd.Index(output.genes)))
    if embeddings:
        adata.obsm["X_predicted"] = np.concatenate(embeddings)
    adata.obs_names_make_unique()
    return adata


def _obs(names: pd.Index, target: str, context: str, is_control: bool, route: str, n_sources: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "target_gene": target,
            "context": context,
            "is_control": is_control,
            "route": route,
            "n_sources": n_sources,
            "interval": np.float32("nan"),
        },
        index=names,
    )
