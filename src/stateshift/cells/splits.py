"""Which cells train, validate and test: cell-load's meaning of the TOML."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd

from stateshift.cells.experiment import Experiment
from stateshift.cells.labels import single_name
from stateshift.cells.population import Cells
from stateshift.cells.survey import survey_files
from stateshift.errors import InputProblems, some, suggestion
from stateshift.feature_table import genes_of
from stateshift.genes.doubles import NO_SEPARATORS, any_order, as_spelt, misspelt_doubles

FEWEST_TO_KEEP_BACK = 4
"""Cells of a training group of which one can be kept back for validation where no split is declared."""
FEW = 8
"""Held-out perturbations up to which each has a sentence of its own."""


def assign_splits(experiment: Experiment, cells: Cells) -> np.ndarray:
    """Split of every cell.

    A cell type in ``[zeroshot]`` goes whole to its split; one in ``[fewshot]`` goes to ``train`` but for
    the perturbations listed; any other cell type trains where its dataset does. Control cells serve
    every split of their context.

    Returns
    -------
    ndarray
        (n,) of ``train``, ``val``, ``test``, ``control``, or ``""`` for cells that no table mentions.

    Raises
    ------
    InputProblems
        All at once: cell types or perturbations of the TOML that are not in the data, contexts with
        perturbed cells and no control, a declared split that is empty, nothing to train on.
    """
    split, problems = find_splits(experiment, cells)
    if problems:
        raise InputProblems(str(experiment.path), problems)
    return split


def held_out_genes(experiment: Experiment) -> list[str]:
    """Genes that the experiment's files perturb and its training never does, doubles split, sorted.

    A gene of a test perturbation that trains in another cell type or in a double is none of them. Labels are read, no
    matrix is.

    Raises
    ------
    InputProblems
        The files can't be read, or the splits contradict them; all at once.
    """
    survey = survey_files(experiment)
    if survey.problems:
        raise InputProblems(str(experiment.path), survey.problems)
    cells = survey.labels()
    trains = assign_splits(experiment, cells) == "train"
    perturbation = cells.obs["perturbation"].to_numpy()
    trained = {gene for p in set(perturbation[trains]) for gene in genes_of(p)}
    return sorted({gene for p in set(perturbation) - {cells.control} for gene in genes_of(p)} - trained)


def find_splits(experiment: Experiment, cells: Cells) -> tuple[np.ndarray, list[str]]:
    """What `assign_splits` returns, and its problems in place of an error.

    Names are looked for only in datasets of which every file was read.
    """
    groups, of_cell = _groups(cells)
    dataset, context, perturbation = (groups[c].to_numpy() for c in ("dataset", "context", "perturbation"))
    is_control = perturbation == cells.control
    files_read = groups.groupby("dataset")["file"].nunique()
    whole = {name for name, files in experiment.datasets.items() if files_read.get(name, 0) == len(files)}
    split = np.full(len(groups), "", dtype="<U7")
    split[np.isin(dataset, experiment.training)] = "train"
    problems = [*_two_orders(np.unique(perturbation)), *_other_separators(perturbation, cells)]
    for place in [*experiment.zeroshot, *experiment.fewshot]:
        here = (dataset == place[0]) & (context == place[1])
        if place[0] not in whole:
            continue
        if not here.any():
            table = "zeroshot" if place in experiment.zeroshot else "fewshot"
            known = np.unique(context[dataset == place[0]])
            problems.append(
                f"[{table}] `{place[0]}.{place[1]}`: no cell of {place[0]} is a `{place[1]}`{suggestion(place[1], known)}; "
                "cell types are read from one obs column, which [columns] cell_type names."
            )
        elif place in experiment.zeroshot:
            split[here] = experiment.zeroshot[place]
            if not (here & ~is_control).any():
                problems.append(f"[zeroshot] `{place[0]}.{place[1]}` has no perturbed cells: nothing to score.")
        else:
            problems += _fewshot(experiment, place, here, split, perturbation, cells.control)
    split[is_control & (split != "")] = "control"
    problems += _without_controls(groups[split != ""], cells.control)
    declared = {*experiment.zeroshot.values(), *(s for e in experiment.fewshot.values() for s, v in e.items() if v)}
    if not problems and whole == set(experiment.datasets):
        for name in ("train", *sorted(declared - {"train"})):
            if not (split == name).any():
                left = "nothing to train on" if name == "train" else f"nothing in {name}"
                problems.append(f"the splits leave {left}: no perturbed cell is left there.")
    return split[of_cell], problems


def seen_elsewhere(experiment: Experiment, cells: Cells, split: np.ndarray) -> list[str]:
    """Sentences on what is held out in one place and trains in another.

    A gene of ``[fewshot]`` that trains in another cell type or in a double is new to its cell type and not
    to the model; a cell type of ``[zeroshot]`` may train in another dataset. The regimes differ, so it is said.
    """
    groups = split_groups(cells, split)
    trained, chooses = (_by_gene(groups[groups["split"] == name]) for name in ("train", "val"))
    said = []
    for dataset, cell_type in experiment.fewshot:
        here = groups[(groups["dataset"] == dataset) & (groups["context"] == cell_type)]
        for name in ("val", "test"):
            held_out = here["perturbation"][here["split"] == name].unique()
            trains = {p: where for p in held_out if (where := _where(p, trained))}
            said += _each(trains, f"held out for {name} in {cell_type}", ("trains as", "train elsewhere, as"))
            if name == "test":
                helps = {p: where for p in held_out if p not in trains and (where := _where(p, chooses))}
                verbs = ("helps to choose the model: in val as", "help to choose the model: in val as")
                said += _each(helps, f"held out for test in {cell_type}", verbs)
    for (dataset, cell_type), name in experiment.zeroshot.items():
        there = groups[(groups["split"] == "train") & (groups["context"] == cell_type)]
        elsewhere = sorted(set(there["dataset"]) - {dataset})
        if name != "train" and elsewhere:
            said.append(f"{cell_type}, held out for {name} in {dataset}, trains in {some(elsewhere)}.")
    return said


def _by_gene(groups: pd.DataFrame) -> dict[str, set[str]]:
    """Gene → where it is perturbed, as ``A+B in K562``."""
    found: dict[str, set[str]] = {}
    for context, perturbation in set(zip(groups["context"], groups["perturbation"])):
        for gene in genes_of(perturbation):
            found.setdefault(gene, set()).add(f"{perturbation} in {context}")
    return found


def _where(perturbation: str, by_gene: dict[str, set[str]]) -> list[str]:
    return sorted(set().union(*(by_gene.get(gene, set()) for gene in genes_of(perturbation))))


def _each(found: dict[str, list[str]], held_out: str, verbs: tuple[str, str]) -> list[str]:
    """A sentence on each of a few perturbations, or one on many."""
    if len(found) <= FEW:
        return [f"{p}, {held_out}, {verbs[0]} {some(where, 4)}." for p, where in found.items()]
    where = [place for places in found.values() for place in places[:1]]
    return [f"{some(found, FEW)}, {held_out}, {verbs[1]} {some(where, FEW)}."]


def split_groups(cells: Cells, split: np.ndarray) -> pd.DataFrame:
    """The groups that cells are served in.

    Returns
    -------
    DataFrame
        ``dataset``, ``file``, ``context``, ``perturbation``, the ``split`` that `find_splits` gave and the number of
        ``cells`` of each group, in the order of their first cells.
    """
    groups, of_cell = _groups(cells)
    first_cell = np.unique(of_cell, return_index=True)[1]
    return groups.assign(split=split[first_cell], cells=np.bincount(of_cell, minlength=len(groups)))


def split_counts(cells: Cells, split: np.ndarray) -> dict[str, dict[str, dict[str, int]]]:
    """Perturbed cells a split: split → context → perturbation → cells."""
    counts: dict[str, dict[str, dict[str, int]]] = {"train": {}, "val": {}, "test": {}}
    table = cells.obs.assign(split=split).groupby(["split", "context", "perturbation"], observed=True).size()
    for (name, context, perturbation), n in table.items():
        if name in counts:
            counts[name].setdefault(context, {})[perturbation] = int(n)
    return counts


def _groups(cells: Cells) -> tuple[pd.DataFrame, np.ndarray]:
    """Every (dataset, file, context, perturbation) once, and the row of it that each cell belongs to."""
    labels = cells.obs[["dataset", "file", "context", "perturbation"]]
    of_cell = labels.groupby(list(labels), sort=False, observed=True).ngroup().to_numpy()
    return labels.drop_duplicates().reset_index(drop=True), of_cell


def _fewshot(
    experiment: Experiment,
    place: tuple[str, str],
    here: np.ndarray,
    split: np.ndarray,
    perturbation: np.ndarray,
    control: str,
) -> list[str]:
    problems = []
    split[here] = "train"
    known = set(perturbation[here]) - {control}
    table = f'[fewshot."{place[0]}.{place[1]}"]'
    taken: dict[str, tuple[str, str]] = {}
    for name, listed in experiment.fewshot[place].items():
        wanted = as_spelt((single_name(p, control) for p in listed), known)
        for single, written in zip(wanted, listed):
            before, spelt = taken.setdefault(single, (name, written))
            if before != name and spelt != written:
                problems.append(f"{table} puts {single} into {before}, as {spelt}, and into {name}, as {written}.")
        for absent in [p for p in wanted if p not in known]:
            why = f"is not perturbed there{_near(absent, known)}"
            if absent == control:
                why = "is the control, which serves training, val and test alike: leave it out"
            problems.append(f"{table} {name}: `{absent}` {why}.")
        split[here & np.isin(perturbation, wanted)] = name
    return problems


def _near(absent: str, known: set[str]) -> str:
    """The guides of a gene where labels name guides, the names in a text of several, or else a near miss."""
    parts = [part.strip() for part in re.split("[,;]", absent)]
    if len(parts) > 1 and known.intersection(parts):
        return f": each name is a text of its own, [{', '.join(json.dumps(p, ensure_ascii=False) for p in parts)}]"
    guides = sorted(p for p in known if p.startswith(absent) and re.fullmatch(r"[_.].*\d", p[len(absent) :]))
    if guides:
        separator = guides[0][len(absent)]
        return (
            f", but guides of it are ({some(guides, 3)}): make genes of them, "
            f"`stateshift data prepare --guide-separator {separator}`"
        )
    return suggestion(absent, known)


def _two_orders(perturbations: np.ndarray) -> list[str]:
    """``A+B`` and ``B+A`` are one perturbation: with both names it could train and test at once."""
    by_genes: dict[str, list[str]] = {}
    for name in perturbations:
        by_genes.setdefault(any_order(str(name)), []).append(str(name))
    return [
        f"{' and '.join(names)} are the same genes: give them one name in obs."
        for names in by_genes.values()
        if len(names) > 1
    ]


def _other_separators(perturbations: np.ndarray, cells: Cells) -> list[str]:
    """``A_B`` for a double would be taken for one gene that no table knows."""
    names = sorted({str(name) for name in perturbations} - {cells.control})
    genes = {*cells.genes, *(gene for name in names if not set(name) & set(NO_SEPARATORS) for gene in name.split("+"))}
    return [f"obs: {problem}" for problem in misspelt_doubles(names, genes)]


def _without_controls(used: pd.DataFrame, control: str) -> list[str]:
    has = (used["perturbation"] == control).groupby([used["file"], used["context"]]).any()
    orphans = [f"{file}: {context}" for (file, context), any_control in has.items() if not any_control]
    told = (
        f"no control cells (`{control}`) in {some(orphans)}: add some of theirs, or leave these cells out of the file."
    )
    return [told] if orphans else []
