"""Another screen as features: what the perturbation of the same gene did there."""

from __future__ import annotations

import logging

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features.directions import leading_directions
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256

logger = logging.getLogger(__name__)

LEAST_MEASURED = 0.5
"""Response genes measured for a smaller share of the perturbations are left out."""


READS = "effects (.csv, .tsv or .h5ad)"


def genes_not_perturbed(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that the screen doesn't perturb."""
    from stateshift.cells import read_effects

    path = request.file(READS)
    genes = list(dict.fromkeys(read_effects(path).perturbations))
    return request.matched(genes, f"not perturbed in {path.name}")[1]


@reads("lookup", "width", lacking=genes_not_perturbed)
def screen_features(request: FeatureRequest) -> FeatureTable:
    """Effects of perturbing each gene, from effects that exist (`read_effects`), in ``request.width`` columns.

    Each context's mean effect is taken away, response genes are scaled to the same spread, a gene's rows in several
    contexts are averaged, and truncated SVD reduces them. What was not measured counts as the mean. The
    provenance says that measured effects are in the table (``measured_effects``) and of what (``perturbed``): effect
    models refuse to be scored on effects of the same file, and ``check`` and ``train`` tell what is held out.

    Raises
    ------
    StateshiftError
        No file is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    from stateshift.cells import read_effects

    path = request.file(READS)
    effects = read_effects(path)
    effects = effects.columns(effects.measured.mean(axis=0) >= LEAST_MEASURED)
    if not effects.genes:
        raise StateshiftError(
            f"{path}: no response gene is measured for half of the perturbations; a screen as features needs effects "
            "measured throughout. Fit an effect model on the calls themselves: stateshift effects fit."
        )
    values = effects.effects.astype(np.float64)
    contexts = np.array(effects.contexts, dtype=str)
    for context in np.unique(contexts):
        rows = contexts == context
        measured = ~np.isnan(values[rows])
        mean = np.nansum(values[rows], axis=0) / np.maximum(measured.sum(axis=0), 1)
        values[rows] -= mean
    values = np.nan_to_num(values)
    spread = values.std(axis=0)
    values = values[:, spread > 1e-9] / spread[spread > 1e-9]
    names, of_row = np.unique(np.array(effects.perturbations, dtype=str), return_inverse=True)
    mean = np.zeros((len(names), values.shape[1]))
    np.add.at(mean, of_row, values)
    mean /= np.bincount(of_row)[:, None]
    logger.info("%s: effects of %d perturbations on %d genes.", path.name, len(names), mean.shape[1])
    wanted = set(request.genes)
    provenance = {
        "source": "screen",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "measured_effects": True,
        "contexts": sorted(set(effects.contexts)),
        "perturbed": {
            context: sorted(
                {p for p, c in zip(effects.perturbations, effects.contexts) if c == context and p in wanted}
            )
            for context in sorted(set(effects.contexts))
        },
        "reduction": "deviations from each context's mean, truncated SVD, rows of length one",
        "comparable_rows": True,
    }
    vectors = leading_directions(mean, request.width)
    return request.picked(list(names), vectors, provenance, f"not perturbed in {path.name}")
