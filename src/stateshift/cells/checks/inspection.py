"""What an experiment really holds: files, columns, cells, splits, feature coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.checks.coverage import (
    SplitCoverage,
    coverage_by_split,
    coverage_problems,
    covered_genes,
    fasta_of,
    untold_by_onehot,
)
from stateshift.cells.checks.labels import look_at_labels
from stateshift.cells.checks.leakage import chosen_on_all_cells, leak_notes
from stateshift.cells.every_gene import differences, looked_at, scale_of_X, survey_every_gene
from stateshift.cells.experiment import Experiment, parse_experiment
from stateshift.cells.loading import IN_MEMORY, Storage, load_survey, scales_that_differ
from stateshift.cells.matrix.scale import BROUGHT
from stateshift.cells.matrix.stored import opened, stored_matrix
from stateshift.cells.population import Cells
from stateshift.cells.splits import FEWEST_TO_KEEP_BACK, find_splits, seen_elsewhere, split_counts, split_groups
from stateshift.cells.survey import FoundFile, Survey, gene_index, survey_files
from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.feature_table import FeatureTable, genes_of, named_otherwise
from stateshift.progress import track


@dataclass
class ExperimentCheck:
    """What `check_experiment` found.

    Parameters
    ----------
    experiment
        The TOML as read.
    files
        Its files as found.
    n_cells, n_genes, n_controls, scale
        Of all files together.
    n_every_gene
        Genes of ``X``, where an ``obsm`` array with a part of them or an embedding is read; else 0.
    loaded_bytes, every_gene_bytes
        Of the matrices once loaded, and of ``X`` beside them.
    counts
        split → context → perturbation → perturbed cells.
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    genes
        Genes perturbed anywhere, doubles split.
    uncovered
        Perturbed genes without a feature vector, or a protein to make it of; None where that isn't known yet.
    coverage
        Perturbations with and without one, by split; empty where that isn't known yet.
    features
        The feature table's genes and width; None where no table is named.
    notes
        Sentences on what is allowed and worth knowing.
    """

    experiment: Experiment
    files: list[FoundFile]
    n_cells: int
    n_genes: int
    n_controls: int
    scale: str
    loaded_bytes: int
    counts: dict[str, dict[str, dict[str, int]]]
    groups: pd.DataFrame
    genes: list[str]
    uncovered: list[str] | None
    coverage: list[SplitCoverage] = field(default_factory=list)
    features: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)
    n_every_gene: int = 0
    every_gene_bytes: int = 0


def read_all(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    beside_only: bool = False,
    storage: Storage = IN_MEMORY,
    every_gene: bool = True,
) -> tuple[Experiment, Cells, np.ndarray]:
    """An experiment, its cells and the split of each, or all that is wrong with any of them.

    Parameters
    ----------
    path, columns, beside_only
        As `read_experiment` takes them.
    storage
        Where the matrices are kept.
    every_gene
        Whether ``X`` is read where the experiment names an ``obsm`` array (`Cells.every_gene`).

    Raises
    ------
    InputProblems
        The problems of the TOML, of the files and of the splits together.
    """
    experiment, survey, split, problems, _ = _read_labels(path, columns, beside_only)
    cells = None
    if not every_gene:
        survey.every_gene = None
    if problems:
        problems += _look_at_values(survey, experiment)[1]
    else:
        cells, problems = load_survey(survey, experiment.columns.get("scale"), storage)
    if problems or cells is None:
        raise InputProblems(str(path), problems)
    return experiment, cells, split


def check_experiment(path: str | Path) -> ExperimentCheck:
    """Read an experiment and its data as training would, and say what is there; no matrix is kept.

    Raises
    ------
    InputProblems
        Everything that would stop training, at once.
    """
    experiment, survey, split, problems, notes = _read_labels(path, None, False)
    cells = survey.labels()
    scale, more = _look_at_values(survey, experiment)
    problems += more
    table, known, coverage = None, None, []
    try:
        table = _table(experiment)
        if not problems:
            perturbed = [p for p in cells.obs["perturbation"].unique() if p != cells.control]
            known = covered_genes(experiment, table, sorted({g for p in perturbed for g in genes_of(p)}))
    except StateshiftError as error:
        problems.append(str(error))
    if known is not None:
        coverage = coverage_by_split(split_groups(cells, split), known)
        fasta = None if table is not None else fasta_of(experiment)
        problems += coverage_problems(coverage, experiment.features.get("missing", "error"), fasta, table)
    if not problems:
        problems = _nothing_to_keep_back(split_groups(cells, split))
    if problems:
        raise InputProblems(str(path), problems)
    genes = sorted({g for p in cells.obs["perturbation"].unique() if p != cells.control for g in genes_of(p)})
    return ExperimentCheck(
        experiment,
        survey.files,
        len(cells),
        len(cells.genes),
        int(cells.is_control.sum()),
        scale,
        survey.loaded_bytes,
        split_counts(cells, split),
        split_groups(cells, split),
        genes,
        None if known is None else sorted(set(genes) - known),
        coverage,
        None if table is None else (len(table), table.width),
        [
            *_left_out(experiment),
            *survey.notes,
            *seen_elsewhere(experiment, cells, split),
            *notes,
            *chosen_on_all_cells(survey.files, experiment.path.name),
            *_of_features(table, experiment, split_counts(cells, split)),
            *_named_otherwise(table, coverage),
        ],
        *((len(whole.genes), whole.loaded_bytes) if (whole := survey.every_gene) else ()),
    )


def _of_features(
    table: FeatureTable | None, experiment: Experiment, counts: Mapping[str, Mapping[str, Iterable[str]]]
) -> list[str]:
    """What is to be said of a table; of features that are not made yet, what their source tells."""
    if table is not None:
        return leaks_into(table, experiment, counts)
    return untold_by_onehot(counts) if experiment.features.get("source") == "onehot" else []


def _named_otherwise(table: FeatureTable | None, coverage: list[SplitCoverage]) -> list[str]:
    """A sentence on genes that are to be left out, and that the table may hold under another name."""
    lacking = sorted({gene for c in coverage for gene in c.missing_genes})
    told = "" if table is None or not lacking else named_otherwise(lacking, table.genes)
    return [f"{len(lacking):,} perturbed genes have no vector{told}: they are left out."] if told else []


def leaks_into(
    table: FeatureTable, experiment: Experiment, counts: Mapping[str, Mapping[str, Iterable[str]]]
) -> list[str]:
    """Sentences on what an experiment holds out and its feature table knows (`leak_notes`), or can't tell of.

    Parameters
    ----------
    counts
        As `split_counts` gives them.
    """
    held_out = [(p, c) for name in ("val", "test") for c, names in counts.get(name, {}).items() for p in names]
    trained = {p for names in counts["train"].values() for p in names}
    files = [path for paths in experiment.datasets.values() for path in paths]
    untold = untold_by_onehot(counts) if table.provenance.get("source") == "onehot" else []
    return untold + leak_notes(
        table, str(experiment.features.get("table", "the feature table")), held_out, trained, files
    )


def _nothing_to_keep_back(groups: pd.DataFrame) -> list[str]:
    """A problem where no cells are declared to choose the checkpoint by, and none can be spared."""
    trains = groups.loc[groups["split"] == "train", "cells"]
    if (groups["split"] == "val").any() or not len(trains) or trains.max() >= FEWEST_TO_KEEP_BACK:
        return []
    return [
        f"no validation split is declared, and no training group has {FEWEST_TO_KEEP_BACK} cells, of which one could be "
        "kept back: declare one in [zeroshot] or [fewshot]."
    ]


def _left_out(experiment: Experiment) -> list[str]:
    return [
        f'[datasets] {name} is used by no table and left out; {name} = "train" in [training] takes it in.'
        for name in experiment.spare
    ]


def _read_labels(
    path: str | Path, columns: Mapping[str, str] | None, beside_only: bool
) -> tuple[Experiment, Survey, np.ndarray, list[str], list[str]]:
    """The TOML, the files' labels and the split of each cell; the problems of all three, and notes."""
    experiment, problems = parse_experiment(path, columns, beside_only=beside_only)
    survey = survey_files(experiment)
    survey.every_gene = survey_every_gene(experiment, survey)
    problems += survey.problems
    cells, split, notes = survey.labels(), np.array([], dtype=str), []
    if cells is not None:
        split, more = find_splits(experiment, cells)
        wrong, notes = look_at_labels(survey, cells, split)
        problems += more + wrong
    elif not problems:
        problems.append("no dataset can be read.")
    named = experiment.features.get("table")
    if named is not None and not experiment.resolve(named).is_file():
        problems.append(f'[features] table = "{named}": there is no such feature table.')
    lookup = experiment.features.get("lookup")
    if lookup is not None and not experiment.resolve(lookup).exists():
        problems.append(f'[features] lookup = "{lookup}": there is no such file.')
    policy = experiment.features.get("missing", "error")
    policies = ("error", "drop") if named is not None else ("error", "drop", "zero", "mean")
    if policy not in policies:
        problems.append(f'[features] missing = "{policy}" is no policy{suggestion(policy, policies)}.')
    return experiment, survey, split, problems, notes


def _table(experiment: Experiment) -> FeatureTable | None:
    """The feature table that an experiment names, where it is there."""
    named = experiment.features.get("table")
    path = None if named is None else experiment.resolve(named)
    return FeatureTable.load(path) if path is not None and path.is_file() else None


def _look_at_values(survey: Survey, experiment: Experiment) -> tuple[str, list[str]]:
    """The scale that the cells would have, and what is wrong with their values; none of them is kept."""
    declared, whole = experiment.columns.get("scale"), survey.every_gene
    scale, values, problems = _look_at_matrices(survey, declared)
    if whole is None or problems:
        return scale, problems
    first = survey.files[0]
    of_X = scale_of_X(first.path, declared) if first.is_expression else declared
    _, values_of_X, problems = _look_at_matrices(whole, of_X)
    if scale == "embedding" or problems:
        return scale, problems
    places = pd.Index(whole.genes).get_indexer(survey.genes)
    for file, array, X in zip(survey.files, values, values_of_X):
        where = f"{file.path}: obsm `{file.embedding}`"
        problems += differences(array, X[:, places], looked_at(len(file.obs)), survey.genes, where)
    return scale, problems


def _look_at_matrices(survey: Survey, declared: str | None) -> tuple[str, list[np.ndarray], list[str]]:
    """The scale that the files' matrices would have, a few rows of each as they would be, and what is wrong."""
    found_on, few, problems = {}, [], []
    for file in track(survey.files, "looking at values"):
        try:
            with opened(file.path) as group:
                matrix, index = stored_matrix(group, file.path, file.embedding), gene_index(file, survey.genes)
                facts, rows = matrix.look(index), looked_at(len(file.obs))
                values = matrix.some(rows) if index is None else matrix.some(rows)[:, index]
            if file.is_expression:
                found = facts.scale(file.uns, declared, matrix.where)
                if found in BROUGHT:
                    facts.refuse_empty_cells(found, matrix.where)
                    values = facts.brought(values, found, rows[:, None])
            else:
                facts.refuse_bad_values(matrix.where)
                found = "embedding"
        except StateshiftError as error:
            problems.append(str(error))
            continue
        found_on[file.name] = found
        few.append(values)
    problems += scales_that_differ(survey, found_on)
    return "log1p_1e4" if set(BROUGHT) & set(found_on.values()) else next(iter(found_on.values()), ""), few, problems
