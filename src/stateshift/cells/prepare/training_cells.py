"""Which cells of a raw file train or are held out, by the experiment that its prepared file is meant for."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.experiment import Experiment, parse_experiment
from stateshift.cells.population import Cells
from stateshift.cells.splits import find_splits
from stateshift.errors import InputProblems, some, suggestion


def find_training_cells(
    toml_path: str | Path, labels: pd.DataFrame, control: str, *, raw: Path, output: Path, dataset: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cells that train, and control cells of their contexts.

    Parameters
    ----------
    toml_path
        The experiment. Its files needn't exist yet.
    labels
        ``context`` and ``perturbation`` of the raw file's n cells.
    control
        The control's name.
    raw, output
        The raw and the prepared file: the dataset that names the output, else the raw file, is meant.
    dataset
        Its name, where that isn't clear.

    Returns
    -------
    tuple
        Mask (n,); the split of each cell (n,), as `find_splits` gives it; sentences on what the experiment says of other
        files.

    Raises
    ------
    InputProblems
        All at once: the TOML contradicts itself or the labels, no dataset or several are meant, nothing trains.
    """
    experiment, patterns, problems = _without_files(Path(toml_path))
    name, wrong = _dataset_meant(patterns, experiment.path, raw, output, dataset)
    if name is None:
        raise InputProblems(str(toml_path), problems + wrong)
    experiment = replace(
        experiment,
        datasets={name: [output]},
        training=[d for d in experiment.training if d == name],
        zeroshot={place: split for place, split in experiment.zeroshot.items() if place[0] == name},
        fewshot={place: splits for place, splits in experiment.fewshot.items() if place[0] == name},
    )
    said = []
    if _may_hold_more_files(patterns[name]):
        experiment, said = _of_these_cells(experiment, labels)
    cells = Cells(None, labels.assign(dataset=name, file=output.name), [], control, "counts")
    split, wrong = find_splits(experiment, cells)
    if problems or wrong:
        raise InputProblems(str(toml_path), problems + wrong)
    context, trains = labels["context"].to_numpy(), split == "train"
    is_control_there = (split == "control") & np.isin(context, np.unique(context[trains]))
    return trains | is_control_there, split, said


def dropped_of_splits(labels: pd.DataFrame, split: np.ndarray, after: Mapping[str, np.ndarray]) -> list[str]:
    """Sentences on what is held out, and on controls, of which a step leaves no cell.

    Parameters
    ----------
    labels, split
        As `find_training_cells` takes and gives them.
    after
        Step → mask (n,) of the cells that it leaves, in the order of the steps.

    Examples
    --------
    >>> labels = pd.DataFrame({"context": ["K562"] * 3, "perturbation": ["A", "A", "B"]})
    >>> dropped_of_splits(labels, np.array(["test", "test", "train"]), {"QC": np.array([False, False, True])})
    ['QC leaves no cell of A in K562, held out for test']
    """
    pair = list(zip(labels["context"], labels["perturbation"]))
    said, before = [], np.ones(len(labels), bool)
    for step, left in after.items():
        for name in ("val", "test", "control"):
            had, has = ({pair[i] for i in np.flatnonzero((split == name) & mask)} for mask in (before, left))
            for context in sorted({context for context, _ in had - has}):
                names = sorted(p for c, p in had - has if c == context)
                role = "the control" if name == "control" else f"held out for {name}"
                said.append(f"{step} leaves no cell of {some(names)} in {context}, {role}")
        before = left
    return said


def _without_files(path: Path) -> tuple[Experiment, dict[str, str], list[str]]:
    """The experiment, its datasets as written, and its problems but for files that are not there."""
    from cell_load.config import ExperimentConfig

    experiment, problems = parse_experiment(path)
    written = {name: str(p) for name, p in ExperimentConfig.from_toml(str(path)).datasets.items()}
    about_files = tuple(f'[datasets] {name} = "{pattern}": ' for name, pattern in written.items())
    return experiment, written, [p for p in problems if not p.startswith(about_files)]


def _dataset_meant(
    patterns: dict[str, str], toml_path: Path, raw: Path, output: Path, dataset: str | None
) -> tuple[str | None, list[str]]:
    """The dataset that holds the prepared file, or why none can be told."""
    if dataset is not None:
        if dataset in patterns:
            return dataset, []
        return None, [f"[datasets] has no `{dataset}`{suggestion(dataset, patterns)}."]
    for file in (output, raw):
        naming = [name for name, pattern in patterns.items() if _names(pattern, toml_path.parent, file)]
        if len(naming) == 1:
            return naming[0], []
        if naming:
            return None, [f"{file.name} belongs to {some(naming)}: pass --dataset with the one that is meant."]
    listed = some([f'{name} = "{pattern}"' for name, pattern in patterns.items()])
    return None, [f"[datasets] names neither {output} nor {raw} ({listed}): pass --dataset NAME, or correct the TOML."]


def _expanded(pattern: str) -> list[str]:
    """A pattern's braces written out, as cell-load does it."""
    from cell_load.data_modules import PerturbationDataModule

    return object.__new__(PerturbationDataModule)._expand_braces(str(Path(pattern).expanduser()))


def _names(pattern: str, folder: Path, file: Path) -> bool:
    """Whether a dataset's file, folder or glob would find a file, from here or from the TOML's folder."""
    wanted = os.path.abspath(file)
    for start in (Path.cwd(), folder):
        for one in _expanded(pattern):
            path = os.path.abspath(start / one)
            if fnmatch.fnmatchcase(wanted, path) or fnmatch.fnmatchcase(os.path.dirname(wanted), path):
                return True
    return False


def _may_hold_more_files(pattern: str) -> bool:
    return len(_expanded(pattern)) > 1 or any(c in pattern for c in "*?[") or not Path(pattern).suffix


def _of_these_cells(experiment: Experiment, labels: pd.DataFrame) -> tuple[Experiment, list[str]]:
    """The experiment cut to the contexts and perturbations of one file among several, and what was cut."""
    pairs = set(zip(labels["context"], labels["perturbation"]))
    contexts = {context for context, _ in pairs}
    zeroshot = {place: split for place, split in experiment.zeroshot.items() if place[1] in contexts}
    fewshot = {
        place: {split: [p for p in listed if (place[1], p) in pairs] for split, listed in splits.items()}
        for place, splits in experiment.fewshot.items()
        if place[1] in contexts
    }
    elsewhere = [f"[zeroshot] {'.'.join(place)}" for place in experiment.zeroshot.keys() - zeroshot.keys()]
    elsewhere += [f"[fewshot] {'.'.join(place)}" for place in experiment.fewshot.keys() - fewshot.keys()]
    elsewhere += [
        f"[fewshot] {'.'.join(place)} {p}"
        for place, splits in fewshot.items()
        for split in splits
        for p in experiment.fewshot[place][split]
        if p not in splits[split]
    ]
    said = [f"not in this file of the dataset: {some(sorted(elsewhere))}"] if elsewhere else []
    return replace(experiment, zeroshot=zeroshot, fewshot=fewshot), said
