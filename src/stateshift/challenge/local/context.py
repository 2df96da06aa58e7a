"""The held-out targets of one context: measured cells as a season scores them, and predicted ones emitted like them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells import EffectTable
from stateshift.cells.survey import FoundFile
from stateshift.challenge.export.counts import counts_of
from stateshift.errors import StateshiftError, some
from stateshift.evaluation.seasons.anchors_2026 import Truth, measured_anchors
from stateshift.evaluation.seasons.score_2025 import Score2025, Truth2025, truth_2025
from stateshift.evaluation.seasons.score_2026 import Score2026, scored_2026, truth_2026
from stateshift.evaluation.seasons.sides import Groups, groups_of, opened
from stateshift.prediction.emission import Emitter, SignificanceMatch, match_training

CellsOf = Callable[[str], csr_matrix]


@dataclass(frozen=True)
class HeldOutContext:
    """What of a context every prediction of its held-out targets is scored by.

    Parameters
    ----------
    name
        The context.
    groups
        Its measured counts by perturbation, controls included.
    names
        The P targets.
    truth
        As the season's score reads it.
    total
        2025: the sum that counts are brought to before log1p, the median of the controls, as cell-eval's `prep` does.
    anchors
        2026: both ends of the scale.
    emitter
        Measured on the controls.
    """

    name: str
    groups: CountGroups
    names: list[str]
    truth: Truth2025 | Truth
    total: float
    anchors: pd.DataFrame | None
    emitter: Emitter

    def score(self, counts: CellsOf, threads: int = 1) -> Score2025 | Score2026:
        """The season's score of a prediction's counts (n, G) by perturbation."""
        if isinstance(self.truth, Truth2025):
            return self.truth.score(lambda name: log1p_of(counts(name), self.total), threads)
        return scored_2026(counts, self.truth, self.anchors, threads)

    def emitted(self, effects: Mapping[str, np.ndarray], match: SignificanceMatch | None, seed: int) -> CellsOf:
        """Counts of predicted effects (G,), as many cells a target as were measured.

        Parameters
        ----------
        effects
            Target → its effect on log1p_1e4.
        match
            Draws each effect to as many significant genes as `match_significance` learned; None leaves it.
        seed
            Of every draw.
        """

        def cells_of(name: str) -> csr_matrix:
            n, effect = self.groups.count(name), effects[name]
            effect = effect if match is None else match.shrink(effect, n)
            return self.emitter.emit(effect, n, seed=seed, target=name)

        return cells_of

    def match(self, train: EffectTable, genes: Sequence[str]) -> SignificanceMatch | None:
        """How many genes respond to an effect of a size, by the training perturbations that are measured on all genes."""
        return match_training(train, genes, self.emitter.controls.variances, len(self.emitter.controls.depths))


@dataclass(frozen=True)
class CountGroups(Groups):
    """Groups whose cells are counts, also where their file holds log1p of them."""

    where: str = ""

    def take(self, rows: np.ndarray) -> csr_matrix:
        """The counts (n, G) of some rows, found on all genes of the file."""
        counts = counts_of(csr_matrix(replace(self, columns=None, where="").raw(rows)), self.where)
        return counts if self.columns is None else counts[:, self.columns]

    def raw(self, rows: np.ndarray) -> csr_matrix | np.ndarray:
        """The values as the file has them."""
        return super().take(rows)


def held_out_context(
    file: FoundFile, context: str, targets: Sequence[str], genes: Sequence[str], season: str, threads: int = 1
) -> HeldOutContext:
    """Read and test the measured cells of a context's held-out targets once.

    Parameters
    ----------
    file
        Where the context's cells lie: counts, or log1p of counts, in ``X`` of an h5ad.
    context, targets
        Names in the file's labels.
    genes
        The G genes that are predicted.
    season
        ``2025`` or ``2026``.
    threads
        Of the tests.

    Raises
    ------
    StateshiftError
        Targets without cells, values that no counts lead to, genes that are absent.
    """
    control = file.columns.control
    mine = (file.obs["context"] == context) & file.obs["perturbation"].isin([control, *targets])
    source = replace(opened(file.path), obs=file.obs, columns=list(file.obs), rows=np.flatnonzero(mine.to_numpy()))
    found = groups_of(source, "perturbation", genes, str(file.path))
    absent = sorted({control, *targets} - set(found.rows))
    if absent:
        raise StateshiftError(f"{file.path} has no cells of {some(absent, 4)} in {context}: nothing to score.")
    groups = CountGroups(found.X, found.rows, found.columns, f"{file.path} ({context})")
    controls, names = groups(control), sorted(targets)
    batches = source.labels("batch").loc[found.rows[control]].astype(str).tolist()
    emitter = Emitter(controls, context, batches)
    total = float(np.median(emitter.controls.depths))
    if season == "2025":
        truth = truth_2025(
            lambda name: log1p_of(groups(name), total), names, list(genes), log1p_of(controls, total), threads
        )
        return HeldOutContext(context, groups, names, truth, total, None, emitter)
    truth = truth_2026(groups, names, list(genes), control, threads)
    return HeldOutContext(context, groups, names, truth, total, measured_anchors(truth, threads), emitter)


def log1p_of(counts: csr_matrix, total: float) -> csr_matrix:
    """Log1p of counts (n, G) brought to a total; a cell without any stays so.

    Examples
    --------
    >>> np.expm1(log1p_of(csr_matrix([[1.0, 3.0]]), 8.0).toarray()).round(4).tolist()
    [[2.0, 6.0]]
    """
    depths = np.maximum(np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(), 1)
    values = np.log1p(counts.data * np.repeat(total / depths, np.diff(counts.indptr)))
    return csr_matrix((values.astype(np.float32), counts.indices, counts.indptr), counts.shape)
