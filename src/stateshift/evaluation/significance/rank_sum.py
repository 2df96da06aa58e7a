"""The Wilcoxon rank-sum test of every perturbation against the controls, for every gene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError, some
from stateshift.evaluation.significance.ordered import Controls, Ordered, ordered
from stateshift.evaluation.significance.ranks import p_values
from stateshift.progress import track

PSEUDOCOUNT = 1e-9
"""Counts per million added to both sides of a fold change on ``counts``."""


@dataclass(frozen=True)
class Significance:
    """What the test found of P perturbations and G genes.

    Parameters
    ----------
    perturbations
        P names.
    p_values
        (P, G), two-sided.
    fdr
        (P, G): Benjamini–Hochberg over each perturbation's tested genes; NaN for others.
    fold_changes
        (P, G): log2 of perturbed over control expression. On ``log1p`` of the means brought back by expm1, 0 where
        both are 0 and infinite where one is; on ``counts`` of mean counts per million plus 1e-9, always finite.
    tested
        (G,): the genes that enter the FDR, the same for every perturbation.
    """

    perturbations: list[str]
    p_values: np.ndarray
    fdr: np.ndarray
    fold_changes: np.ndarray
    tested: np.ndarray

    def rows(self, perturbations: Sequence[str]) -> Significance:
        """The same for some of its perturbations, in their order."""
        index = {name: i for i, name in enumerate(self.perturbations)}
        absent = [name for name in perturbations if name not in index]
        if absent:
            raise StateshiftError(f"No test was made of {some(absent, 4)}.")
        at = [index[name] for name in perturbations]
        return Significance(list(perturbations), self.p_values[at], self.fdr[at], self.fold_changes[at], self.tested)


def rank_sum_test(
    cells_of: Callable[[str], csr_matrix | np.ndarray],
    perturbations: Sequence[str],
    controls: Controls,
    *,
    fewest_cpm: float | None = None,
    threads: int = 1,
) -> Significance:
    """Test every perturbation's cells against the controls, gene by gene.

    The controls were sorted once (`sorted_controls`): what a perturbation costs is the sorting of its own values and
    a look-up of each among the controls. Its cells are asked for one perturbation at a time, so they may come
    from a file that doesn't fit in memory. The p-values are those of `pdex` 0.3.0 and of
    ``scipy.stats.mannwhitneyu(method="asymptotic")``: normal approximation, ties and continuity corrected.

    Parameters
    ----------
    cells_of
        A perturbation's cells (n, G) on the controls' scale; with several threads it is called by all of them.
    perturbations
        P names.
    controls
        The sorted controls, which say the scale.
    fewest_cpm
        Only genes whose mean counts per million in the controls are above this are tested (scale ``counts``): the
        controls alone decide, or else a gene's being there would tell its direction.
    threads
        How many perturbations are tested at a time.

    Raises
    ------
    StateshiftError
        A perturbation without cells, negative values or NaN, or `fewest_cpm` for values that are no counts.

    Examples
    --------
    >>> import numpy as np
    >>> from stateshift.evaluation.significance import rank_sum_test, sorted_controls
    >>> controls = sorted_controls(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), "log1p")
    >>> found = rank_sum_test(lambda name: np.array([[3.0, 1.0], [4.0, 1.0]]), ["A"], controls)
    >>> found.p_values.round(4)
    array([[0.1002, 1.    ]])
    """
    p, fold = (np.empty((len(perturbations), len(controls.ties))) for _ in range(2))

    def test(i: int) -> None:
        p[i], fold[i] = against_controls(cells_of(perturbations[i]), controls, perturbations[i])

    with ThreadPoolExecutor(threads) as pool:
        for _ in track(pool.map(test, range(len(perturbations))), "rank sums", total=len(perturbations)):
            pass
    return adjusted(perturbations, p, fold, controls, fewest_cpm)


def against_controls(cells: csr_matrix | np.ndarray, controls: Controls, who: str) -> tuple[np.ndarray, np.ndarray]:
    """p-values and log2 fold changes, (G,) each, of one perturbation's cells; errors call it `who`."""
    return compared(ordered(cells, controls.scale, who), controls)


def compared(cells: Ordered, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """p-values and log2 fold changes, (G,) each, of cells that are in order on the controls' scale."""
    of = controls.cells
    p = p_values(
        of.values, of.starts, of.genes, controls.stored, controls.ties, of.n_cells,
        cells.values, cells.starts, cells.genes, cells.n_cells,
    )  # fmt: skip
    if controls.scale == "log1p":
        return p, _ratio_of_log1p(cells.mean, of.mean)
    return p, np.log2((cells.mean + PSEUDOCOUNT) / (of.mean + PSEUDOCOUNT))


def adjusted(
    perturbations: Sequence[str],
    p: np.ndarray,
    fold_changes: np.ndarray,
    controls: Controls,
    fewest_cpm: float | None = None,
) -> Significance:
    """p-values (P, G) with their false discovery rates over the genes that are tested."""
    if fewest_cpm is not None and controls.scale != "counts":
        raise StateshiftError("A least number of counts per million needs counts, and the values are log1p.")
    tested = np.ones(p.shape[1], bool) if fewest_cpm is None else controls.cells.mean > fewest_cpm
    fdr = np.full(p.shape, np.nan)
    fdr[:, tested] = false_discovery_rates(p[:, tested])
    return Significance(list(perturbations), p, fdr, fold_changes, tested)


def false_discovery_rates(p: np.ndarray) -> np.ndarray:
    """Benjamini–Hochberg adjusted p-values of each row (P, G) (Benjamini & Hochberg 1995).

    Examples
    --------
    >>> false_discovery_rates(np.array([[0.01, 0.04, 0.03]]))
    array([[0.03, 0.04, 0.04]])
    """
    if not p.shape[1]:
        return p.copy()
    order = np.argsort(p, axis=1)
    scaled = np.take_along_axis(p, order, axis=1) * (p.shape[1] / np.arange(1, p.shape[1] + 1))
    least = np.minimum.accumulate(scaled[:, ::-1], axis=1)[:, ::-1]
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.clip(least, 0, 1), axis=1)
    return found


@njit(cache=True, nogil=True)
def _ratio_of_log1p(perturbed: np.ndarray, control: np.ndarray) -> np.ndarray:
    """log2 of expm1 of two means, each expm1 in the precision of its mean as `pdex` has it; 0 for 0 / 0."""
    found = np.zeros(len(perturbed))
    for j in range(len(perturbed)):
        above, below = np.float64(np.expm1(perturbed[j])), np.float64(np.expm1(control[j]))
        if above > 0.0 and below > 0.0:
            found[j] = np.log2(above / below)
        elif above > 0.0:
            found[j] = np.inf
        elif below > 0.0:
            found[j] = -np.inf
    return found
