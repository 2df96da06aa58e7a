"""The same target measured in other contexts, turned into what this context answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.feature_space import first_least
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.effects.transfer import Transfer, fit_transfer, weighted
from stateshift.feature_table import FeatureTable

PROGRAMS = 20
FEWEST_ROWS = 10
"""Rows of a context that a map is learned from."""
PENALTIES = tuple(float(a) for a in np.logspace(2, -3, 11))
"""In parts of the mean square of the coordinates, largest first: where rows can't tell two apart, the stronger is taken."""


@dataclass
class MappedTransfer:
    """`Transfer`, and a linear map of its deviations in each context that was trained on.

    Contexts answer the same programs with different strength, and some with others: with x the deviation that other
    contexts tell of a target (`Transfer`), in its K leading programs V, a context's own is taken for

        d = x + B' V x

    with B (K, G) by ridge regression over the context's training rows, each as told by the other rows of its target. A
    context without rows, or with fewer than ten, has no map.

    Parameters
    ----------
    transfer
        What other contexts tell.
    axes
        V (K, G), orthonormal.
    maps
        Context → B (K, G).
    """

    transfer: Transfer
    axes: np.ndarray
    maps: dict[str, np.ndarray]

    @property
    def programs(self) -> int | None:
        """Those of the transfer."""
        return self.transfer.programs

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G); the context main effect for a target never seen."""
        effects = self.transfer.predict(perturbations, contexts)
        if not len(effects):
            return effects
        deviations = effects - self.transfer.main.of_contexts(contexts)
        names = np.array(contexts, dtype=str)
        for context, to_genes in self.maps.items():
            at = names == context
            effects[at] += (deviations[at] @ self.axes.T @ to_genes).astype(np.float32)
        return effects

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``transfer`` where the target was perturbed in training, else ``fallback``."""
        return self.transfer.routes(perturbations, contexts)


def fit_mapped_transfer(
    train: EffectTable,
    features: FeatureTable | None = None,
    seed: int = 0,
    controls: dict[str, np.ndarray] | None = None,
    programs: int | None = None,
    main: MainEffects | None = None,
) -> MappedTransfer:
    """The transfer, and each context's map, with the penalty of least squared error over rows that are left out.

    Rows that don't measure all genes give no map.

    Parameters
    ----------
    train, features, seed, controls, programs, main
        As of `fit_transfer`; the seed draws what the leading programs are sought from, too (Halko et al., SIAM Rev. 53,
        217, 2011).
    """
    from sklearn.utils.extmath import randomized_svd

    main = main or fit_main_effects(train)
    transfer = fit_transfer(train, features, seed, controls, programs, main)
    deviations = train.effects - main.of_contexts(train.contexts)
    asked, weights = transfer.by_others()
    if not len(asked) or np.isnan(deviations).any():
        return MappedTransfer(transfer, np.zeros((0, deviations.shape[1])), {})
    told = transfer.scale * weighted(weights, transfer.deviations)
    axes = randomized_svd(told, min(PROGRAMS, *told.shape), n_iter=2, random_state=seed)[2]
    of_row, maps = np.array(train.contexts, dtype=str)[asked], {}
    for context in transfer.alike.names:
        at = np.flatnonzero(of_row == context)
        if len(at) >= FEWEST_ROWS:
            found = _ridge(told[at] @ axes.T, deviations[asked[at]] - told[at])
            if found is not None:
                maps[context] = found
    return MappedTransfer(transfer, axes, maps)


def _ridge(points: np.ndarray, left: np.ndarray) -> np.ndarray | None:
    """Coefficients (K, G) from points (n, K) to what is left (n, G); None where leaving rows out speaks against any.

    The error of a row that is left out is (y − ŷ) / (1 − h), h its leverage (Allen, Technometrics 16, 125, 1974).
    """
    vectors, singular, axes = np.linalg.svd(points, full_matrices=False)
    mean_square = (singular**2).mean()
    if not mean_square > 0:
        return None
    turned, errors = vectors.T @ left, [float((left**2).sum())]
    for penalty in PENALTIES:
        kept = singular**2 / (singular**2 + penalty * mean_square)
        leverage = (vectors**2) @ kept
        errors.append(float((((left - (vectors * kept) @ turned) / (1 - leverage)[:, None]) ** 2).sum()))
    best = first_least(np.array(errors))
    if best == 0:
        return None
    return (axes.T * (singular / (singular**2 + PENALTIES[best - 1] * mean_square))) @ turned
