"""As many significant genes as training perturbations of an effect's size show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr

from stateshift.cells.pseudobulk import EffectTable
from stateshift.errors import InputProblems, StateshiftError

logger = logging.getLogger(__name__)

THRESHOLD = 3.2
"""Where a false discovery rate of 5 % cuts when 2.7 % of the genes respond: 2 Φ(−3.2) = 0.05 · 0.027."""


@dataclass(frozen=True)
class SignificanceMatch:
    """How many genes respond to an effect of a given size, learned from training perturbations.

    Parameters
    ----------
    sizes, counts
        Corners of a rising line through the origin: Σ (z² − 1) over genes, and the genes with |z| above the threshold
        beyond those that noise puts there.
    variances
        (G,): of the control cells, on log1p_1e4.
    n_controls
        The control cells behind every effect.
    threshold
        Of |z|.
    """

    sizes: np.ndarray
    counts: np.ndarray
    variances: np.ndarray
    n_controls: int
    threshold: float

    def expected(self, effect: np.ndarray, n_cells: int) -> float:
        """Genes of |z| above the threshold that n cells of this effect are expected to show, noise's own included."""
        return _above(np.abs(_z(effect, n_cells, self.n_controls, self.variances)), self.threshold)

    def allowed(self, effect: np.ndarray, n_cells: int) -> float:
        """The same of training perturbations of this size; at least one more than noise shows.

        Beyond the largest training perturbation it is as for that one.
        """
        z = _z(effect, n_cells, self.n_controls, self.variances)
        return _above(0 * z, self.threshold) + max(1.0, float(np.interp((z**2).sum(), self.sizes, self.counts)))

    def shrink(self, effect: np.ndarray, n_cells: int) -> np.ndarray:
        """The effect (G,) drawn to zero by λ standard errors, a soft threshold.

        λ ≥ 0 is the least that leaves no more `expected` genes than were `allowed` before. The effect is returned as it is
        where it shows no more than that: nothing is ever enlarged.
        """
        z = _z(effect, n_cells, self.n_controls, self.variances)
        size, allowed = np.abs(z), self.allowed(effect, n_cells)

        def too_many(by: float) -> float:
            return _above(np.maximum(size - by, 0), self.threshold) - allowed

        if too_many(0.0) <= 0:
            return np.asarray(effect).copy()
        by = brentq(too_many, 0.0, size.max())
        left = np.maximum(size - by, 0) / np.where(size > 0, size, 1)
        return np.where(self.variances > 0, left, 1.0) * effect


def match_significance(
    effects: np.ndarray,
    n_cells: np.ndarray,
    variances: np.ndarray,
    n_controls: int,
    threshold: float = THRESHOLD,
) -> SignificanceMatch:
    """Learn from P training perturbations how the number of significant genes grows with the size of an effect.

    For perturbation p of n cells, z_g = effect_g / √(variance_g (1/n + 1/n0)); its size is Σ (z² − 1), which noise
    leaves at 0 in the mean, its count the genes of |z| > threshold less the 2 G Φ(−threshold) that noise shows. The
    count is fitted as a rising function of the size by isotonic regression, from the origin on. As z holds n,
    perturbations of other numbers of cells than a prediction's are of use.

    Parameters
    ----------
    effects
        (P, G), measured: mean log1p_1e4 of cells less the controls'.
    n_cells
        (P,).
    variances
        (G,): of the control cells (`Emitter.controls.variances`). Genes of variance 0 are left out.
    n_controls
        n0.
    threshold
        Of |z|.

    Raises
    ------
    InputProblems
        Shapes that don't agree, NaN, no perturbations, perturbations without cells.
    """
    from sklearn.isotonic import IsotonicRegression

    effects, n_cells, variances = np.atleast_2d(effects), np.asarray(n_cells, dtype=float), np.asarray(variances)
    _check(effects, n_cells, variances)
    z = effects / np.sqrt(np.maximum(variances, 1e-300) * (1 / n_cells + 1 / n_controls)[:, None])
    z = z[:, variances > 0]
    noise = _above(np.zeros(z.shape[1]), threshold)
    sizes = np.append(0.0, np.maximum((z**2 - 1).sum(axis=1), 0))
    counts = np.append(0.0, np.maximum((np.abs(z) > threshold).sum(axis=1) - noise, 0))
    # the origin is known, and weighs more than any number of perturbations
    weights = np.append(1e6 * len(z), np.ones(len(z)))
    fit = IsotonicRegression(y_min=0).fit(sizes, counts, sample_weight=weights)
    return SignificanceMatch(fit.X_thresholds_, fit.y_thresholds_, variances, n_controls, threshold)


def match_training(
    train: EffectTable, genes: Sequence[str], variances: np.ndarray, n_controls: int
) -> SignificanceMatch | None:
    """`match_significance` of the training perturbations that are measured on all genes; None, and a warning, where none is.

    Parameters
    ----------
    train
        Training effects on log1p_1e4, with numbers of cells.
    genes
        G names.
    variances, n_controls
        As of `match_significance`.
    """
    places = pd.Index(train.genes).get_indexer(genes)
    effects = train.effects[:, places]
    whole = np.isfinite(effects).all(axis=1) & (places >= 0).all()
    if train.n_cells is None or not whole.any():
        logger.warning("no training perturbation is measured on all genes: significant genes are not matched to them")
        return None
    return match_significance(effects[whole], train.n_cells[whole], variances, n_controls)


def _z(effect: np.ndarray, n_cells: int, n_controls: int, variances: np.ndarray) -> np.ndarray:
    """The effect in standard errors, 0 where the controls don't vary."""
    if np.shape(effect) != variances.shape:
        raise StateshiftError(f"An effect of shape {np.shape(effect)} has no place among {len(variances):,} variances.")
    known = variances > 0
    error = np.sqrt(np.where(known, variances, 1) * (1 / n_cells + 1 / n_controls))
    return np.where(known, effect / error, 0.0)


def _above(size: np.ndarray, threshold: float) -> float:
    """How many of normal variables with means `size` ≥ 0 and variance 1 are expected beyond ± threshold."""
    return float((ndtr(size - threshold) + ndtr(-size - threshold)).sum())


def _check(effects: np.ndarray, n_cells: np.ndarray, variances: np.ndarray) -> None:
    P, G = effects.shape
    problems = []
    if not P:
        problems.append("no training perturbations: one or more are needed.")
    if n_cells.shape != (P,):
        problems.append(f"numbers of cells of shape {n_cells.shape} for {P} perturbations: give one each.")
    elif (n_cells < 1).any():
        problems.append(f"{(n_cells < 1).sum()} perturbations have no cells: leave them out.")
    if variances.shape != (G,):
        problems.append(f"variances of shape {variances.shape} for {G:,} genes: give one each.")
    elif not (np.isfinite(variances).all() and (variances >= 0).all()):
        problems.append("variances that are negative or not finite.")
    if not np.isfinite(effects).all():
        problems.append(
            f"{(~np.isfinite(effects)).sum():,} effects are NaN or infinite: leave out those genes or perturbations."
        )
    if problems:
        raise InputProblems("matching significance", problems)
