"""Files, columns, cells and splits of an experiment, read and checked together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.checks.coverage import untold_by_onehot
from stateshift.cells.checks.labels import look_at_labels
from stateshift.cells.checks.leakage import leak_notes
from stateshift.cells.every_gene import differences, looked_at, scale_of_X, survey_every_gene
from stateshift.cells.experiment import Experiment, parse_experiment
from stateshift.cells.loading import IN_MEMORY, Storage, load_survey, scales_that_differ
from stateshift.cells.matrix.scale import BROUGHT
from stateshift.cells.matrix.stored import opened, stored_matrix
from stateshift.cells.population import Cells
from stateshift.cells.splits import find_splits
from stateshift.cells.survey import Survey, gene_index, survey_files
from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.progress import track


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
    experiment, survey, split, problems, _ = read_labels(path, columns, beside_only)
    cells = None
    if not every_gene:
        survey.every_gene = None
    if problems:
        problems += look_at_values(survey, experiment)[1]
    else:
        cells, problems = load_survey(survey, experiment.columns.get("scale"), storage)
    if problems or cells is None:
        raise InputProblems(str(path), problems)
    return experiment, cells, split


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


def read_labels(
    path: str | Path, columns: Mapping[str, str] | None = None, beside_only: bool = False
) -> tuple[Experiment, Survey, np.ndarray, list[str], list[str]]:
    """The TOML, the files' labels and the split of each cell; the problems of all three, and notes."""
    experiment, problems = parse_experiment(path, columns, beside_only=beside_only)
    survey = survey_files(experiment)
    survey.every_gene = survey_every_gene(experiment, survey)
    problems += survey.problems
    cells, split, notes = survey.labels(), np.array([], dtype=str), []
    if cells is not None:
        split, more = find_splits(experiment, cells)
        if problems:  # what they leave out is why a split is empty
            more = [sentence for sentence in more if not sentence.startswith("the splits leave")]
        wrong, notes = look_at_labels(survey, cells, split)
        problems += more + wrong
    elif not problems:
        problems.append("no dataset can be read.")
    named = experiment.features.get("table")
    if named is not None and not experiment.resolve(named).is_file():
        way = "" if Path(named).suffix else f': a source is named by  source = "{named}"'
        problems.append(f'[features] table = "{named}": there is no such feature table{way}.')
    lookup = experiment.features.get("lookup")
    if lookup is not None and not experiment.resolve(lookup).exists():
        problems.append(f'[features] lookup = "{lookup}": there is no such file.')
    policy = experiment.features.get("missing", "error")
    policies = ("error", "drop") if named is not None else ("error", "drop", "zero", "mean")
    if policy not in policies:
        problems.append(f'[features] missing = "{policy}" is no policy{suggestion(policy, policies)}.')
    return experiment, survey, split, problems, notes


def look_at_values(survey: Survey, experiment: Experiment) -> tuple[str, list[str]]:
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
