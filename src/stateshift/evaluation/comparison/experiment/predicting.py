"""The second stage of a comparison: what each candidate predicts for the pairs of a fold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stateshift.effects.models import effect_model
from stateshift.errors import StateshiftError
from stateshift.evaluation.comparison.experiment.candidates import NO_FEATURES, Candidate
from stateshift.evaluation.comparison.experiment.elsewhere import Elsewhere
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder
from stateshift.evaluation.comparison.experiment.stages import FoldEffects
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.run import RunDirectory
from stateshift.training import resume, train
from stateshift.training.config import training_settings
from stateshift.training.resume import progress_of

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CELLS = 1024
"""Predicted cells a pair of a network: their mean is what counts."""
FALLBACK = "mean"
"""The effect model that stands in where a perturbation has no vector, or a file no prediction."""


@dataclass(frozen=True)
class Predictor:
    """Predicts a fold with any candidate.

    Parameters
    ----------
    folder
        Where networks are kept.
    tables
        Name → feature table's file.
    overrides
        Hydra's words for every network.
    elsewhere
        Name → what predicts by files.
    """

    folder: ComparisonFolder
    tables: dict[str, Path]
    overrides: Sequence[str]
    elsewhere: dict[str, Elsewhere] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, fold: FoldEffects) -> tuple[np.ndarray, list[str]]:
        """Effects (R, G) of the fold's pairs, never below no expression, and their routes.

        Raises
        ------
        StateshiftError
            The candidate can't be fitted, trained or predicted with.
        """
        if candidate.model in self.elsewhere:
            by = self._by_files
        else:
            by = self._by_network if candidate.is_network else self._by_effects
        effects, routes = by(candidate, fold)
        if not np.isfinite(effects).all():
            raise StateshiftError(f"{candidate.name} predicts values that are no numbers.")
        if fold.train.scale != "embedding":
            effects = np.maximum(effects, -np.stack([fold.train.control_means[c] for c in fold.truth.contexts]))
        return effects.astype(np.float32), routes

    def _by_effects(self, candidate: Candidate, fold: FoldEffects) -> tuple[np.ndarray, list[str]]:
        """By an effect model; where a perturbation has no vector it trains nothing, and the mean effect stands in."""
        names, contexts = fold.truth.perturbations, fold.truth.contexts
        table, known, rows = None, np.ones(len(names), bool), fold.train
        if candidate.features != NO_FEATURES:
            table = FeatureTable.load(self.tables[candidate.features])
            known = np.array([not table.missing([p]) for p in names])
            trains = np.array([not table.missing([p]) for p in fold.train.perturbations], bool)
            if not trains.any():
                raise StateshiftError(f"no training perturbation has a vector in {candidate.features}.")
            rows = fold.train.rows(trains)
        model = effect_model(candidate.model)(rows, table, candidate.seed)
        effects, routes = self._fallback(fold)
        at = np.flatnonzero(known)
        if len(at):
            some, places = [names[i] for i in at], [contexts[i] for i in at]
            effects[at] = model.predict(some, places)
            for i, route in zip(at, model.routes(some, places)):
                routes[i] = route
        return effects, routes

    def _by_files(self, candidate: Candidate, fold: FoldEffects) -> tuple[np.ndarray, list[str]]:
        """As a file says; the mean effect stands in for pairs that it doesn't hold."""
        predicted = self.elsewhere[candidate.model].effects(fold)
        effects, routes = self._fallback(fold)
        for i, pair in enumerate(zip(fold.truth.contexts, fold.truth.perturbations)):
            if pair in predicted:
                effects[i], routes[i] = predicted[pair], "elsewhere"
        return effects, routes

    def _fallback(self, fold: FoldEffects) -> tuple[np.ndarray, list[str]]:
        mean = effect_model(FALLBACK)(fold.train, None, 0)
        effects = np.array(mean.predict(fold.truth.perturbations, fold.truth.contexts), dtype=np.float32)
        return effects, ["fallback"] * len(fold.truth)

    def _by_network(self, candidate: Candidate, fold: FoldEffects) -> tuple[np.ndarray, list[str]]:
        """By a network: trained or gone on with, then mean predicted cells less the control cells that they start from."""
        run = self._trained(candidate, fold)
        effects, routes = self._fallback(fold)
        counted = np.zeros(len(fold.truth))
        row = {pair: i for i, pair in enumerate(zip(fold.truth.contexts, fold.truth.perturbations))}
        asked: dict[tuple[Path, tuple[str, ...]], dict[str, int]] = {}
        for context, files in fold.files.items():
            wanted = tuple(p for p, c in zip(fold.truth.perturbations, fold.truth.contexts) if c == context)
            for file, controls in files:
                asked.setdefault((file, wanted), {})[context] = controls
        for (file, perturbations), contexts in asked.items():
            for pair, (effect, route) in self._shifts(candidate, run, fold, file, perturbations, contexts).items():
                i = row[pair]
                # a context of several files counts as their mean
                effects[i] = (effects[i] * counted[i] + effect) / (counted[i] + 1)
                counted[i] += 1
                routes[i] = route
        return effects, routes

    def _trained(self, candidate: Candidate, fold: FoldEffects) -> RunDirectory:
        run = RunDirectory(self.folder.run(fold.name, candidate))
        if run.last.is_file():
            if not progress_of(run, training_settings(run.config()))[1]:
                resume(run.path)
            return run
        if run.path.exists():  # killed before its first checkpoint: nothing to go on with
            shutil.rmtree(run.path)
        words = [*self.overrides, f"model={candidate.model}", f"seed={candidate.seed}"]
        train(
            fold.experiment,
            words,
            pert_features=self.tables[candidate.features],
            missing="drop",
            output_dir=run.path.parent,
            name=run.path.name,
        )
        return run

    def _shifts(
        self,
        candidate: Candidate,
        run: RunDirectory,
        fold: FoldEffects,
        file: Path,
        perturbations: Sequence[str],
        contexts: dict[str, int],
    ) -> dict[tuple[str, str], tuple[np.ndarray, str]]:
        """(context, perturbation) → mean shift (G,) and route, from the control cells of one file."""
        import anndata as ad

        written = self.folder.prediction(fold.name, candidate).with_suffix(".h5ad")
        written.unlink(missing_ok=True)
        predict(
            run.path,
            cells=file,
            perturb=perturbations,
            contexts=list(contexts),
            output=written,
            features=self.tables[candidate.features],
            missing="fallback",
            n_cells=min(MOST_CELLS, *contexts.values()),
            seed=candidate.seed,
        )
        adata = ad.read_h5ad(written)
        written.unlink()
        return _mean_shifts(adata, adata.var_names.get_indexer(fold.train.genes), file)


def _mean_shifts(adata: AnnData, order: np.ndarray, file: Path) -> dict[tuple[str, str], tuple[np.ndarray, str]]:
    """Mean of predicted cells less that of the very control cells that each started from, genes in an order."""
    obs, names = adata.obs, adata.obs_names.to_numpy(dtype=str)
    control = obs["is_control"].to_numpy()
    of_context, target = obs["context"].to_numpy(dtype=str), obs["target_gene"].to_numpy(dtype=str)
    pairs = sorted(set(zip(of_context[~control], target[~control])))
    found = {}
    for context, perturbation in pairs:
        here = of_context == context
        rows = np.flatnonzero(here & ~control & (target == perturbation))
        started = {name[len(perturbation) + 1 :] for name in names[rows]}
        starts = np.flatnonzero(here & control)
        starts = starts[[name in started for name in names[starts]]]
        if len(starts) != len(rows):
            raise StateshiftError(
                f"{file} names cells more than once: make obs_names unique (adata.obs_names_make_unique)."
            )
        shift = adata.X[rows].mean(axis=0) - adata.X[starts].mean(axis=0)
        found[context, perturbation] = np.asarray(shift).ravel()[order], str(obs["route"].iloc[rows[0]])
    return found
