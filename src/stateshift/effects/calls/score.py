"""Predicted effects beside the calls or values that they were asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.read import read_calls
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.files import read_csv
from stateshift.metrics import RankedGroups

DRAWS = 500
COLUMNS = ("perturbation", "context", "gene", "score")


@dataclass
class Pairs:
    """N (perturbation, gene) pairs with prediction and truth.

    Parameters
    ----------
    predicted, truth
        Arrays (N,).
    perturbation, gene
        Codes (N,).
    labels
        Whether the truth is 0/1.
    """

    predicted: np.ndarray
    truth: np.ndarray
    perturbation: np.ndarray
    gene: np.ndarray
    labels: bool

    def each(self, times: np.ndarray | None = None) -> np.ndarray:
        """Scores to average: labels give an AUC a gene, values a Pearson correlation a perturbation; NaN where undefined.

        Parameters
        ----------
        times
            How often each perturbation counts (P,); default once.
        """
        if self.labels:
            return self._ranked.auc(None if times is None else times[self.perturbation])
        perturbations, each = self._correlations
        return each if times is None else np.repeat(each, times[perturbations].astype(int))

    @cached_property
    def _ranked(self) -> RankedGroups:
        """Sorted once for all resamples."""
        return RankedGroups(self.predicted, self.truth, self.gene)

    @cached_property
    def _correlations(self) -> tuple[np.ndarray, np.ndarray]:
        """Perturbations, and the correlation of each."""
        frame = pd.DataFrame({"p": self.perturbation, "x": self.predicted, "y": self.truth})
        centred = frame[["x", "y"]] - frame.groupby("p")[["x", "y"]].transform("mean")
        sums = (
            pd.DataFrame(
                {"p": frame["p"], "xy": centred["x"] * centred["y"], "xx": centred["x"] ** 2, "yy": centred["y"] ** 2}
            )
            .groupby("p")
            .sum()
        )
        size = np.sqrt(sums["xx"] * sums["yy"]).to_numpy()
        each = np.divide(sums["xy"].to_numpy(), size, out=np.full(len(size), np.nan), where=size > 1e-12)
        return sums.index.to_numpy(), each

    def mean(self, times: np.ndarray | None = None) -> float:
        """The mean of `each` where it is defined."""
        each = self.each(times)
        return float(np.nanmean(each)) if np.isfinite(each).any() else np.nan


def score_effects(scores: str | Path, truth: str | Path, *, split: str = "test", seed: int = 0) -> pd.DataFrame:
    """Score predictions on the pairs that a table tells, each context by itself.

    Labels: the area under the ROC curve of each response gene over the perturbations that it was called for,
    averaged over the genes that have both labels. Values: the Pearson correlation of each perturbation over its
    genes, averaged. The interval resamples perturbations.

    Parameters
    ----------
    scores
        What `predict_effects` wrote: columns `COLUMNS`.
    truth
        A table that `read_calls` reads; one without contexts is that of the predictions, where they are of one.
    split
        Which of its rows; a table without a split is all ``train``.
    seed
        Draws the resamples.

    Returns
    -------
    pd.DataFrame
        One row a context: ``context``, ``metric``, ``score``, ``low``, ``high`` (95 %), ``averaged`` (genes or
        perturbations), ``pairs``.

    Raises
    ------
    StateshiftError
        A file can't be read, no gene has both labels, or no perturbation values and scores that vary.
    InputProblems
        Columns that are missing, pairs that are predicted twice, or pairs of the truth that were not predicted.
    """
    predicted = _read_scores(Path(scores))
    contexts = predicted["context"].unique()
    calls = read_calls(truth, in_context=str(contexts[0]) if len(contexts) == 1 else "unnamed")
    part = calls.part(split)
    rows = []
    for context in sorted(set(part.contexts)):
        asked = part.rows(np.array(part.contexts) == context)
        pairs = paired_with(asked, predicted[predicted["context"] == context], calls.labels, str(scores))
        n = int(np.isfinite(pairs.each()).sum())
        if not n:
            values = "of no perturbation both values and scores vary over its genes"
            why = "no gene is called both 0 and 1" if calls.labels else values
            raise StateshiftError(f"{truth}: nothing can be scored in {context}: {why}.")
        low, high = np.nanpercentile(resampled(pairs, pairs, seed)[0], [2.5, 97.5])
        metric = "AUC per gene" if calls.labels else "Pearson per perturbation"
        rows.append((context, metric, pairs.mean(), low, high, n, len(pairs.truth)))
    return pd.DataFrame(rows, columns=["context", "metric", "score", "low", "high", "averaged", "pairs"])


def paired_with(asked: EffectTable, predicted: pd.DataFrame, labels: bool, where: str) -> Pairs:
    """The measured pairs of one context beside their predictions; an InputProblems where any is lacking."""
    p, g = asked.measured.nonzero()
    wanted = pd.MultiIndex.from_arrays([np.array(asked.perturbations)[p], np.array(asked.genes)[g]])
    found = predicted.set_index(["perturbation", "gene"])["score"].reindex(wanted).to_numpy()
    if np.isnan(found).any():
        absent = [f"{a} on {b}" for a, b in wanted[np.isnan(found)][:4]]
        raise InputProblems(
            where, [f"{np.isnan(found).sum():,} of {len(found):,} pairs are not predicted, as {some(absent)}."]
        )
    return Pairs(found, asked.effects[p, g], p, g, labels)


def resampled(
    a: Pairs, b: Pairs, seed: int = 0, draws: int = DRAWS, target: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Means (draws,) of two predictions of the same pairs over the same resamples of perturbations.

    Parameters
    ----------
    target
        Code of each perturbation (P,), where several are drawn as one; default each by itself.
    """
    target = np.arange(int(a.perturbation.max()) + 1) if target is None else target
    rng, n = np.random.default_rng(seed), int(target.max()) + 1
    drawn = [np.bincount(rng.integers(0, n, n), minlength=n)[target] for _ in range(draws)]
    of_a = np.array([a.mean(times) for times in drawn])
    return of_a, of_a if b is a else np.array([b.mean(times) for times in drawn])


def difference(a: Pairs, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a less that of another prediction of the same pairs, with a 95 % interval over perturbations."""
    other = replace(a, predicted=b)
    of_a, of_b = resampled(a, other, seed)
    low, high = np.nanpercentile(of_a - of_b, [2.5, 97.5])
    return a.mean() - other.mean(), float(low), float(high)


def _read_scores(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file of scores.")
    frame = read_csv(path, dtype=dict.fromkeys(COLUMNS[:3], str), keep_default_na=False)
    absent = [f"there is no column `{c}`{suggestion(c, frame.columns)}." for c in COLUMNS if c not in frame]
    if absent:
        raise InputProblems(str(path), absent)
    strange = ~np.isfinite(pd.to_numeric(frame["score"], errors="coerce"))
    if strange.any():
        raise StateshiftError(
            f"{path}: `score` is no number in {strange.sum():,} lines (first: line {strange.argmax() + 2})."
        )
    twice = frame[frame.duplicated(list(COLUMNS[:3]))]
    if len(twice):
        told = [f"{p} on {g} in {c}" for p, c, g in twice[list(COLUMNS[:3])].drop_duplicates().to_numpy()]
        raise InputProblems(str(path), [f"pairs are predicted twice: {some(told)}."])
    return frame.astype({"score": float})
