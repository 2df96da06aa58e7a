"""Co-expression as features: genes that vary together from control cell to control cell."""

from __future__ import annotations

import logging

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features.directions import leading_directions
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256

logger = logging.getLogger(__name__)

FEWEST_CELLS = 20
MOST_CELLS = 20_000


READS = "cells (.h5ad)"


def genes_not_measured(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that the cells don't measure."""
    from stateshift.cells.survey import find_file

    path = request.file(READS)
    return request.matched(find_file(path, "", path.name, {}).genes, f"not measured in {path.name}")[1]


@reads("lookup", "width", lacking=genes_not_measured, later="genes that are constant in the control cells")
def expression_features(request: FeatureRequest) -> FeatureTable:
    """Correlations of genes over the control cells of a file (log1p), in ``request.width`` columns.

    Each gene is standardised within its context, so that contexts that differ in their mean don't make genes
    correlate; the products of two genes' vectors approach their correlation. Only control cells are read of
    the perturbation's column, so nothing of any effect enters. At most `MOST_CELLS` cells are taken, drawn evenly.

    Raises
    ------
    StateshiftError
        No file of cells is named, it holds fewer than `FEWEST_CELLS` control cells, or it lacks genes and the
        policy is ``error``.
    """
    from stateshift.cells import read_cells

    path = request.file(READS)
    cells = read_cells(path)
    if cells.scale == "embedding":
        raise StateshiftError(f"{path}: co-expression needs the expression of genes, and X is an embedding.")
    control = np.flatnonzero(cells.is_control)
    if len(control) < FEWEST_CELLS:
        raise StateshiftError(
            f"{path} holds {len(control)} control cells (`{cells.control}`): co-expression needs {FEWEST_CELLS} or more."
        )
    if len(control) > MOST_CELLS:
        control = np.sort(np.random.default_rng(0).choice(control, MOST_CELLS, replace=False))
    X = cells.X.dense(control)
    contexts = cells.obs["context"].to_numpy()[control]
    for context in np.unique(contexts):
        X[contexts == context] -= X[contexts == context].mean(axis=0)
    spread = X.std(axis=0)
    varies = spread > 1e-6
    logger.info("%s: co-expression of %d genes over %d control cells.", path.name, varies.sum(), len(control))
    vectors = leading_directions((X[:, varies] / spread[varies]).T, request.width)
    provenance = {
        "source": "expression",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "control_cells": len(control),
        "reduction": "standardised within contexts, truncated SVD, rows of length one",
        "comparable_rows": True,
    }
    constant = {gene: "constant in the control cells" for gene, v in zip(cells.genes, varies) if not v}
    known = [gene for gene, v in zip(cells.genes, varies) if v]
    return request.picked(known, vectors, provenance, f"not measured in {path.name}", reasons=constant)
