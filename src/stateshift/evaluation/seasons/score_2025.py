"""The challenge of 2025: cell-eval's measures of a prediction and the score against its baseline, natively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import StateshiftError
from stateshift.evaluation.seasons.energy import energy_distance, mean_distance
from stateshift.evaluation.seasons.sides import Source, both_sides, opened
from stateshift.evaluation.significance import (
    Controls,
    Significance,
    agreement,
    count_correlation,
    rank_sum_test,
    sorted_controls,
)
from stateshift.evaluation.significance.agreement import FDR
from stateshift.metrics import discrimination, mae, mse, pearson_delta

if TYPE_CHECKING:
    from anndata import AnnData

ControlsOf = Literal["truth", "own"]
SCORED = ("mae", "pds_l1", "des")
TOP_GENES = 20
HIGHEST = 15.0
"""cell-eval takes no log1p value from here on."""


@dataclass
class Score2025:
    """Measures of a prediction.

    Parameters
    ----------
    table
        One row a perturbation: ``pearson_delta``, the same over the true responders (``_de``) and the 20 genes of
        the smallest true p-values (``_top20``), ``mae``, ``mse``, ``pds_l1``, ``pds_l2``, ``pds_cosine``, and the columns
        of `stateshift.evaluation.significance.agreement`; ``energy_true`` and ``energy_predicted`` where asked for.
    means
        Their means over perturbations that have a value; also ``count_spearman`` and, where asked for,
        ``energy_pearson``, which have one value for all.
    baseline
        ``mae``, ``pds_l1`` and ``des`` of the mean of the truth's group means (an oracle), a constant for all cells.
    score
        Mean of (u − b) / (1 − b) for ``des`` and ``pds_l1`` and of 1 − u / b for ``mae``, each at least 0.
    """

    table: pd.DataFrame
    means: pd.Series
    baseline: pd.Series
    score: float

    @property
    def members(self) -> pd.DataFrame:
        """Index: `SCORED`; columns ``value``, ``baseline`` and ``score``, 0 where one is not defined."""
        value, baseline = self.means[list(SCORED)], self.baseline[list(SCORED)]
        parts = {"value": value, "baseline": baseline, "score": baseline_shares(value, baseline)}
        return pd.DataFrame(parts).rename_axis("member")


@dataclass(frozen=True)
class _Side:
    """What is known of one side: group means (P, G), its controls' mean (G,), and its test."""

    means: np.ndarray
    control: np.ndarray
    test: Significance

    @property
    def effects(self) -> np.ndarray:
        return self.means - self.control


def score_2025(
    predicted: AnnData | str | Path | Source,
    truth: AnnData | str | Path | Source,
    *,
    perturbation: str = "target_gene",
    control: str = "non-targeting",
    controls: ControlsOf = "truth",
    energy: bool = False,
    threads: int = 1,
) -> Score2025:
    """Score log1p cells as cell-eval 0.8.2 does: its profile ``vcc``, its other measures and its baseline's score.

    Values equal cell-eval's to 1e-6, but where it leaves equal distances of the PDS to the order of ``argsort``,
    which here count half (`stateshift.metrics.discrimination`).

    Parameters
    ----------
    predicted, truth
        Log1p cells × genes with ``obs[perturbation]``; the truth with its controls.
    perturbation, control
        The column, and the name of the controls in it.
    controls
        Against which controls the prediction is tested and subtracted: the ``truth``'s, or the prediction's ``own``
        as cell-eval has it, which a prediction can alter to its advantage.
    energy
        Also energy distances to the controls (slow: every pair of cells).
    threads
        Threads of the tests.

    Raises
    ------
    StateshiftError
        Columns, controls, genes or perturbations are absent; values that are no log1p expression.
    """
    sources = (opened(side, perturbation) for side in (predicted, truth))
    shown, true, names, genes = both_sides(*sources, perturbation, control)
    if controls == "own" and control not in shown.rows:
        raise StateshiftError(f"The prediction has no cells of `{control}`: score it with controls='truth'.")
    real_controls = true(control)
    _refuse_other_than_log1p(real_controls, "the truth's controls")
    # one perturbation of the prediction tells of most mistakes, long before the truth is read
    _refuse_other_than_log1p(shown(names[0]), f"the prediction: {names[0]}")
    ready = truth_2025(true, names, genes, real_controls, threads)
    if controls == "own":
        own = shown(control)
        _refuse_other_than_log1p(own, "the prediction's controls")
        found = ready.scored(_side(shown, names, _mean(own), sorted_controls(own, "log1p"), threads, "the prediction"))
    else:
        found = ready.score(shown, threads)
    if energy:
        found.table["energy_true"] = _energies(true, names, real_controls)
        found.table["energy_predicted"] = _energies(shown, names, own if controls == "own" else real_controls)
        pair = found.table["energy_predicted"].to_numpy(), found.table["energy_true"].to_numpy()
        means = found.table[["energy_true", "energy_predicted"]].mean()
        means["energy_pearson"] = float(pearson_delta(*(side[None] for side in pair))[0])
        found.means = pd.concat([found.means, means])
    return found


@dataclass(frozen=True)
class Truth2025:
    """A truth that was read and tested once, for any number of predictions of it.

    Parameters
    ----------
    names, targets
        The P perturbations, and the column of each one's own gene where it is measured.
    controls
        Sorted, as tests need them.
    real
        Its means and tests.
    baseline
        As of `Score2025`.
    """

    names: list[str]
    targets: list[list[int]]
    controls: Controls
    real: _Side
    baseline: pd.Series

    def score(self, cells_of: Callable[[str], csr_matrix | np.ndarray], threads: int = 1) -> Score2025:
        """The score of a prediction's log1p cells by perturbation, tested against the truth's controls."""
        test = _side(cells_of, self.names, self.real.control, self.controls, threads, "the prediction")
        return self.scored(test)

    def scored(self, found: _Side) -> Score2025:
        """The score of a side that was tested."""
        table = _measures(found, self.real, self.targets, self.names)
        means = pd.concat([table.mean(), pd.Series({"count_spearman": count_correlation(table)})])
        return Score2025(table, means, self.baseline, baseline_score(means, self.baseline))


def truth_2025(
    true: Callable[[str], csr_matrix | np.ndarray],
    names: list[str],
    genes: list[str],
    controls: csr_matrix | np.ndarray,
    threads: int = 1,
) -> Truth2025:
    """Read and test a truth, and measure its baseline.

    Parameters
    ----------
    true
        A perturbation's log1p cells (n, G).
    names, genes
        P perturbations and G genes.
    controls
        The control cells (n0, G), log1p.
    threads
        Threads of the tests.
    """
    ready, sizes = sorted_controls(controls, "log1p"), {}

    def read(name: str) -> csr_matrix | np.ndarray:
        cells = true(name)
        sizes[name] = cells.shape[0]
        return cells

    real = _side(read, names, _mean(controls), ready, threads, "the truth")
    column = {gene: j for j, gene in enumerate(genes)}
    targets = [[column[name]] if name in column else [] for name in names]
    # the mean of the groups' means, the controls' counted as one
    constant = np.vstack([real.means, real.control]).mean(axis=0).astype(np.float32)
    form = csr_matrix if issparse(controls) else np.asarray
    test = _test_of_constant(form(constant[None]), [sizes[name] for name in names], names, ready)
    base = _Side(np.tile(constant, (len(names), 1)), real.control, test)
    return Truth2025(names, targets, ready, real, _measures(base, real, targets, names)[list(SCORED)].mean())


def baseline_score(means: pd.Series, baseline: pd.Series) -> float:
    """Mean of 1 − u / b for ``mae`` and (u − b) / (1 − b) for ``pds_l1`` and ``des``, each at least 0.

    Examples
    --------
    >>> u, b = pd.Series({"mae": 0.5, "pds_l1": 0.75, "des": 0.1}), pd.Series({"mae": 1.0, "pds_l1": 0.5, "des": 0.2})
    >>> round(baseline_score(u, b), 4)
    0.3333
    """
    return float(baseline_shares(means, baseline).mean())


def baseline_shares(means: pd.Series, baseline: pd.Series) -> pd.Series:
    """The parts of `baseline_score`, by name; 0 where one is not defined."""
    parts = {"mae": 1 - means["mae"] / baseline["mae"]}
    parts |= {name: (means[name] - baseline[name]) / (1 - baseline[name]) for name in SCORED[1:]}
    return pd.Series(parts).fillna(0.0).clip(lower=0.0)


def _refuse_other_than_log1p(cells: csr_matrix | np.ndarray, who: str) -> None:
    values = cells.data if issparse(cells) else cells
    if not values.any():
        raise StateshiftError(f"{who}: every value of every cell is 0: there is nothing to score.")
    most = values.max()
    if not (values.min() >= 0 and most < np.inf):
        raise StateshiftError(f"{who}: values are negative, NaN or infinite, which no expression is.")
    # a thousand tell: log1p of counts brought to a total is no whole number but 0
    whole = not np.mod(values[values != 0][:1000], 1).any()
    if whole or most >= HIGHEST:
        raise StateshiftError(
            f"{who}: values are {'whole numbers' if whole else f'as large as {most:,.4g}'}, and the measures of 2025 are of "
            "log1p expression. Normalise both sides alike first (scanpy.pp.normalize_total, scanpy.pp.log1p)."
        )


def _side(
    cells_of: Callable,
    names: list[str],
    control_mean: np.ndarray,
    controls: Controls,
    threads: int,
    who: str,
) -> _Side:
    means = np.empty((len(names), len(control_mean)))
    position = {name: i for i, name in enumerate(names)}

    def read(name: str) -> csr_matrix | np.ndarray:
        cells = cells_of(name)
        _refuse_other_than_log1p(cells, f"{who}: {name}")
        means[position[name]] = _mean(cells)
        return cells

    test = rank_sum_test(read, names, controls, threads=threads)
    return _Side(means, control_mean, test)


def _test_of_constant(
    cell: csr_matrix | np.ndarray, n_cells: list[int], names: list[str], controls: Controls
) -> Significance:
    """The test of as many equal cells (1, G) as each perturbation has, once for each number of them."""
    sizes = [str(n) for n in n_cells]
    test = rank_sum_test(lambda size: cell[np.zeros(int(size), int)], sorted(set(sizes)), controls)
    return replace(test.rows(sizes), perturbations=names)


def _mean(cells: csr_matrix | np.ndarray) -> np.ndarray:
    return np.asarray(cells.sum(axis=0, dtype=np.float64)).ravel() / cells.shape[0]


def _measures(found: _Side, real: _Side, targets: list[list[int]], names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(index=pd.Index(names, name="perturbation"))
    responds = real.test.fdr.astype(np.float32) < FDR
    top = _strongest(real.test)
    for suffix, genes in (("", np.ones_like(responds)), ("_de", responds), ("_top20", top)):
        table[f"pearson_delta{suffix}"] = [
            _correlation(found.effects[i, genes[i]], real.effects[i, genes[i]]) for i in range(len(names))
        ]
    table["mae"], table["mse"] = mae(found.means, real.means), mse(found.means, real.means)
    for distance in ("l1", "l2", "cosine"):
        table[f"pds_{distance}"] = discrimination(found.effects, real.effects, distance, targets)
    return table.join(agreement(found.test, real.test))


def _strongest(test: Significance) -> np.ndarray:
    """Whether a gene is among the 20 of the smallest p-values, larger fold changes first where they tie; (P, G)."""
    chosen = np.zeros(test.p_values.shape, bool)
    for i, p in enumerate(test.p_values):
        chosen[i, np.lexsort((-np.abs(test.fold_changes[i]), p))[:TOP_GENES]] = True
    return chosen


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(pearson_delta(x[None], y[None])[0]) if len(x) > 1 else np.nan


def _energies(cells_of: Callable, names: list[str], controls: csr_matrix | np.ndarray) -> list[float]:
    within = mean_distance(controls)
    return [energy_distance(cells_of(name), controls, within) for name in names]
