"""The first stage of a comparison: the training effects of each fold, and the measured effects that it is scored on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells import Cells, EffectTable, Experiment, Storage, estimate_effects, read_all, regimes_of
from stateshift.cells.pseudobulk import second_experiment
from stateshift.errors import StateshiftError
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder
from stateshift.evaluation.comparison.experiment.folds import Fold, make_folds, write_experiment
from stateshift.files import intact, written_beside

NAMES = "folds.json"


@dataclass
class FoldEffects:
    """A fold as effects.

    Parameters
    ----------
    name
        The fold's.
    train
        Effects of its training cells, G genes.
    truth
        Effects of the R (perturbation, context) pairs that are scored, on the same genes, with their reliability.
    experiment
        The TOML that a network is trained by.
    files
        Context → files with cells that are scored, and how many control cells of the context each holds.
    """

    name: str
    train: EffectTable
    truth: EffectTable
    experiment: Path
    files: dict[str, list[tuple[Path, int]]]

    @property
    def regimes(self) -> list[str]:
        """The regime of each pair."""
        train = zip(self.train.perturbations, self.train.contexts)
        return regimes_of(self.truth.perturbations, self.truth.contexts, train)


def fold_effects(
    folder: ComparisonFolder, experiment: Experiment, regime: str | None, n_folds: int, storage: Storage
) -> list[FoldEffects]:
    """The folds, as they were kept, or estimated and kept.

    Raises
    ------
    StateshiftError
        The experiment or its cells can't be used, or give no such folds.
    """
    names = folder.path / "folds" / NAMES
    with folder.alone("folds"):
        if not names.is_file():
            _, cells, split = read_all(experiment.path, storage=storage)
            folds = make_folds(cells, split, regime, n_folds)
            for fold in folds:
                _estimate(folder, experiment, cells, fold)
            with written_beside(names) as part:
                part.write_text(json.dumps([fold.name for fold in folds]) + "\n")
    return [load_fold(folder, experiment, name) for name in _read(names)]


def _estimate(folder: ComparisonFolder, experiment: Experiment, cells: Cells, fold: Fold) -> None:
    population = cells.every_gene or cells
    for what, part in (("train", "train"), ("truth", "test")):
        path = folder.fold(fold.name, f"{what}.npz")
        if not path.is_file():
            found = estimate_effects(population, fold.split == part)
            found.save(path)
            pairs = pd.DataFrame(
                {"perturbation": found.perturbations, "context": found.contexts, "cells": found.n_cells}
            )
            pairs.to_csv(path.with_suffix(".csv"), index=False)
    if fold.name != "test":
        write_experiment(experiment, cells, fold, folder.fold(fold.name, "experiment.toml"))
    place = ["context", "dataset", "file"]
    controls = cells.obs[cells.is_control].groupby(place, observed=True).size()
    files: dict[str, list] = {}
    for context, dataset, file in sorted(set(map(tuple, cells.obs.loc[fold.split == "test", place].to_numpy()))):
        found = [dataset, _number(experiment, dataset, file), int(controls[context, dataset, file])]
        files.setdefault(context, []).append(found)
    folder.fold(fold.name, "files.json").write_text(json.dumps(files) + "\n")


def load_fold(folder: ComparisonFolder, experiment: Experiment, name: str) -> FoldEffects:
    """A fold as `fold_effects` kept it."""
    files = {
        context: [(experiment.datasets[dataset][number], n) for dataset, number, n in places]
        for context, places in _read(folder.fold(name, "files.json")).items()
    }
    train, truth = (EffectTable.load(folder.fold(name, f"{what}.npz")) for what in ("train", "truth"))
    toml = experiment.path if name == "test" else folder.fold(name, "experiment.toml")
    return FoldEffects(name, train, truth, toml, files)


def _number(experiment: Experiment, dataset: str, file: str) -> int:
    """Which file of a dataset goes by a name in ``obs``: its own, or its whole path where two are named alike."""
    for i, path in enumerate(experiment.datasets[dataset]):
        if file in (path.name, str(path), f"{dataset}: {path.name}", f"{dataset}: {path}"):
            return i
    raise StateshiftError(f"{experiment.path}: no file of {dataset} goes by the name {file}.")


def _read(path: Path) -> list | dict:
    with intact(path, "Choose another --output."):
        return json.loads(path.read_text())


def best_possible(truth: EffectTable, rows: Sequence[int] | np.ndarray) -> float:
    """The Pearson delta that a second experiment of the same size would reach on some pairs, in the mean (`second_experiment`)."""
    return second_experiment(truth.reliability[np.asarray(rows)])
