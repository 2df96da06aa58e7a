"""Effects on pseudobulk as cells with whole counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_matrix

from stateshift.errors import InputProblems, StateshiftError
from stateshift.prediction.emission.controls import depths_of, measure_controls
from stateshift.prediction.emission.curves import measure_curves
from stateshift.prediction.emission.drawing import KEPT, Genes, cells_of, draw, growth

ENOUGH = 1e-7
"""How far the rates of an emission may be from the sum that they need."""
LOOKED_AT, ROUNDS = 256, 2
"""Cells whose growth in depth is looked at to find what the rates have to sum to, and how often that is done."""
LEAST_VARIANCE = 1e-9
AT_ONCE = 2**22
"""Values that are looked at together."""


class Emitter:
    """Cells of one context with a wanted pseudobulk, drawn from its control cells.

    What needs the controls alone is measured here, once; an emission then costs the drawing. The model is
    gamma-Poisson: cell i with counts x and depth N_i = Σ x holds of gene g

        x_ig ~ Poisson(N_i · p_g · ε_ig),    ε_ig ~ Gamma of mean 1 and variance φ_g

    An effect becomes a factor f_g of each gene's rate p_g (`factors`), and the factor counts (`emit`).

    Parameters
    ----------
    counts
        (n0, G): whole counts of the context's control cells, CSR or what makes one.
    context
        Its name, part of every seed.
    batches
        (n0,) label of each control cell's batch; the cells drawn follow the controls' batches.

    Attributes
    ----------
    counts
        (n0, G): the control cells.
    controls
        What was measured of them: `Controls`.

    Raises
    ------
    InputProblems
        Counts that are negative, fractional or not finite; cells without counts; fewer than two cells; labels that are
        not one a cell.

    Examples
    --------
    >>> controls = np.random.default_rng(0).poisson([5.0, 20.0, 75.0], (200, 3))
    >>> emitter = Emitter(controls, "K562")
    >>> cells = emitter.emit(np.array([-0.5, 0.0, 0.0]), 100, seed=0, target="A")
    >>> cells.shape, bool(cells[:, 0].mean() < 4)
    ((100, 3), True)
    """

    def __init__(self, counts: csr_matrix | np.ndarray, context: str, batches: Sequence[str] | None = None):
        self.context = context
        self.counts = _checked(counts, context, batches)
        self.controls, tally = measure_controls(self.counts)
        self._curves = measure_curves(self.controls, tally)
        n0 = self.counts.shape[0]
        labels = np.zeros(n0, int) if batches is None else np.unique(batches, return_inverse=True)[1]
        self._in_order = np.lexsort((self.controls.depths, labels))
        self._cells = cells_of(self.counts, self.controls.depths)
        self._some = self.rows(min(n0, LOOKED_AT), seed=0, target="")

    def factors(self, effect: np.ndarray) -> np.ndarray:
        """What each gene's rate is multiplied by, (G,), so that the cells' pseudobulk moves by `effect`.

        A gene that no control cell holds has a factor of the rate 1e-6 instead (`Controls.base`): 0 where its effect
        is not positive.
        """
        return self._solved(effect)[0]

    def attainable(self, effect: np.ndarray) -> np.ndarray:
        """The effect (G,) that an emission aims at: `effect`, as near as cells can show it.

        Expression can't fall below none; and as every cell's expression sums to 10,000, the rates have to sum to 1,
        which an effect that was averaged or shrunk misses by a little. (With m the depths that cells would get, to
        E m / exp(E ln m), since it is logarithms that are averaged.) What is given up makes the least sum of squared
        standard errors, to first order: δ_g ∝ variance_g · rate_g.
        """
        return self._solved(effect)[1]

    def rows(self, n_cells: int, *, seed: int, target: str) -> np.ndarray:
        """The control cells (n_cells,) that an emission starts from, one a row of it.

        The controls in order of batch and depth are cut into as many stretches as cells are wanted, and one cell
        drawn of each: batches and depths are the controls' own, more closely than by chance. None comes twice unless
        more are wanted than there are; then each comes about as often. Their order is random.
        """
        n0 = len(self._in_order)
        if n_cells < 1:
            raise StateshiftError(f"{target} in {self.context}: {n_cells} cells can't be emitted, ask for 1 or more.")
        rng = _generator(seed, self.context, target, "cells")
        every = np.tile(np.arange(n0), n_cells // n0)
        wanted = n_cells % n0
        edges = np.floor((np.arange(wanted + 1) + rng.random()) * n0 / max(wanted, 1)).astype(int)
        drawn = rng.integers(edges[:-1], edges[1:]) % n0 if wanted else edges[:0]
        return self._in_order[rng.permutation(np.concatenate([every, drawn]))]

    def emit(self, effect: np.ndarray, n_cells: int, *, seed: int, target: str) -> csr_matrix:
        """Cells whose pseudobulk is the controls' moved by `effect`, within sampling error.

        A gene's counts are thinned to the share k = min(f, 0.95), each count for itself, and drawn anew for the rest
        of its factor: given what was kept, ε is Gamma distributed with shape 1 / φ + kept and rate 1 / φ + k · N · p
        (Bayes' rule), so that new counts are negative binomial. They have the mean and the variance of rate f · p
        whatever the distribution of ε, and the zeros too where it is Gamma. As a twentieth of what an effect leaves alone
        is drawn anew, cells are no copies of control cells.

        Parameters
        ----------
        effect
            (G,): mean over cells of log1p_1e4, less the controls'.
        n_cells
            n.
        seed, target
            With the context they decide every draw, whatever was emitted before.

        Returns
        -------
        csr_matrix
            (n, G) float32 whole numbers, int32 columns in order.

        Raises
        ------
        StateshiftError
            An effect of another length, with NaN or infinite values, or that leaves no expression; no cells.
        """
        rows = self.rows(n_cells, seed=seed, target=target)
        factors = self.factors(effect)
        rng = _generator(seed, self.context, target, "counts")
        data, indices, indptr = draw(rng, rows, self._cells, self._genes(factors))
        return csr_matrix((data, indices, indptr), shape=(n_cells, len(factors)))

    def _solved(self, effect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factors, and the effect that they give, (G,) each."""
        effect = np.asarray(effect, dtype=np.float64)
        if effect.shape != self.controls.rates.shape:
            raise StateshiftError(
                f"An effect of shape {effect.shape} can't be emitted in {self.context}, whose controls hold "
                f"{len(self.controls.rates):,} genes: give one value a gene, in the order of the controls."
            )
        if not np.isfinite(effect).all():
            raise StateshiftError(
                f"An effect to be emitted in {self.context} holds {(~np.isfinite(effect)).sum():,} NaN or infinite values (first "
                f"in column {np.argmin(np.isfinite(effect))}): fill them first, with 0 where nothing is known."
            )
        curves = self._curves
        wanted = np.maximum(curves.start + effect, 0)
        # a gene that doesn't vary gives way too where no other can
        share = np.maximum(self.controls.variances, LEAST_VARIANCE) * self.controls.base * curves.factors(wanted)
        if not share.any():
            raise StateshiftError(
                f"An effect to be emitted in {self.context} leaves no gene expressed: is it on log1p_1e4?"
            )
        total = 1.0
        for _ in range(ROUNDS):
            reached, factors = self._summing_to(total, wanted, share)
            grown, variance = growth(self._some, self._cells, self._genes(factors))
            total = grown.mean() / np.exp((np.log(grown) - variance / grown**2 / 2).mean())
        return factors, reached - curves.start

    def _summing_to(self, total: float, wanted: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (G,), as near to the wanted ones as the shares δ leave them, and factors whose rates sum to `total`."""
        base = self.controls.base

        def reached(step: float) -> np.ndarray:
            return np.maximum(wanted - step * share, 0)

        def too_much(step: float) -> float:
            return base @ self._curves.factors(reached(step)) - total

        step = _root(too_much, 1 / (share @ base))
        return reached(step), self._curves.factors(reached(step))

    def _genes(self, factors: np.ndarray) -> Genes:
        controls = self.controls
        return Genes(factors, controls.base, np.where(controls.rates > 0, KEPT, 0.0), controls.shapes(factors))


def _root(falling, scale: float) -> float:
    """Where a falling function is 0, sought outwards from 0."""
    at_zero = falling(0.0)
    if abs(at_zero) < ENOUGH:
        return 0.0
    near, far = 0.0, np.copysign(scale * abs(at_zero), at_zero)
    while falling(far) * at_zero > 0:
        near, far = far, 4 * far
    return brentq(falling, near, far, xtol=1e-12 * abs(far), rtol=1e-9)


def _generator(seed: int, *names: str) -> np.random.Generator:
    """A source of randomness of its own for a seed and names."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32)])


def _checked(counts: csr_matrix | np.ndarray, context: str, batches: Sequence[str] | None) -> csr_matrix:
    """Control counts as CSR with sorted columns, refused with all their problems."""
    counts = csr_matrix(counts, dtype=np.float32)
    problems = []
    if counts.shape[0] < 2:
        problems.append(f"{counts.shape[0]} control cells: two or more are needed to measure how genes vary.")
    n_bad, n_negative, n_fractions = 0, 0, 0
    for start in range(0, counts.nnz, AT_ONCE):
        values = counts.data[start : start + AT_ONCE]
        n_bad += (~np.isfinite(values)).sum()
        n_negative += (values < 0).sum()
        n_fractions += (values != np.rint(values)).sum()
    if n_bad:
        problems.append(f"{n_bad:,} values are NaN or infinite.")
    if n_negative:
        problems.append(f"{n_negative:,} values are negative.")
    if n_fractions > n_bad:
        problems.append(f"{n_fractions:,} values are fractions: counts are needed, not normalised or log1p expression.")
    n_empty = (depths_of(counts) == 0).sum()
    if n_empty:
        problems.append(f"{n_empty:,} cells hold no counts: drop them.")
    if batches is not None and len(batches) != counts.shape[0]:
        problems.append(f"{len(batches):,} batch labels for {counts.shape[0]:,} cells: give one a cell.")
    if problems:
        raise InputProblems(f"control cells of {context}", problems)
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    return counts
