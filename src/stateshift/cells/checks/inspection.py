"""What an experiment really holds: files, columns, cells, splits, feature coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stateshift.cells.checks.labels import notes_of, problems_of
from stateshift.cells.experiment import Experiment, parse_experiment
from stateshift.cells.loading import IN_MEMORY, Storage, load_survey, scales_that_differ
from stateshift.cells.matrix.stored import opened, stored_matrix
from stateshift.cells.population import Cells
from stateshift.cells.splits import find_splits, seen_elsewhere, split_counts
from stateshift.cells.survey import FoundFile, Survey, survey_files
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable, genes_of
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
    loaded_bytes
        Of the matrices once loaded.
    counts
        split → context → perturbation → perturbed cells.
    genes
        Genes perturbed anywhere, doubles split.
    uncovered
        Perturbed genes without a feature vector; None where no table is named.
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
    genes: list[str]
    uncovered: list[str] | None
    notes: list[str] = field(default_factory=list)


def read_all(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    beside_only: bool = False,
    storage: Storage = IN_MEMORY,
) -> tuple[Experiment, Cells, np.ndarray]:
    """An experiment, its cells and the split of each, or all that is wrong with any of them.

    Parameters
    ----------
    path, columns, beside_only
        As `read_experiment` takes them.
    storage
        Where the matrices are kept.

    Raises
    ------
    InputProblems
        The problems of the TOML, of the files and of the splits together.
    """
    experiment, survey, split, problems = _read_labels(path, columns, beside_only)
    cells = None
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
    experiment, survey, split, problems = _read_labels(path, None, False)
    scale, more = _look_at_values(survey, experiment)
    problems += more
    if problems:
        raise InputProblems(str(path), problems)
    cells = survey.labels()
    counts = split_counts(cells, split)
    genes = sorted({g for p in cells.obs["perturbation"].unique() if p != cells.control for g in genes_of(p)})
    uncovered = None
    if "table" in experiment.features:
        uncovered = FeatureTable.load(experiment.resolve(experiment.features["table"])).missing(genes)
    return ExperimentCheck(
        experiment,
        survey.files,
        len(cells),
        len(cells.genes),
        int(cells.is_control.sum()),
        scale,
        survey.loaded_bytes,
        counts,
        genes,
        uncovered,
        [*survey.notes, *seen_elsewhere(experiment, cells, split), *notes_of(survey, cells, split)],
    )


def _read_labels(
    path: str | Path, columns: Mapping[str, str] | None, beside_only: bool
) -> tuple[Experiment, Survey, np.ndarray, list[str]]:
    """The TOML, the files' labels and the split of each cell; the problems of all three."""
    experiment, problems = parse_experiment(path, columns, beside_only=beside_only)
    survey = survey_files(experiment)
    problems += survey.problems
    cells, split = survey.labels(), np.array([], dtype=str)
    if cells is not None:
        split, more = find_splits(experiment, cells)
        problems += more + problems_of(survey, cells, split)
    elif not problems:
        problems.append("no dataset can be read.")
    table = experiment.features.get("table")
    if table is not None and not experiment.resolve(table).is_file():
        problems.append(f'[features] table = "{table}": there is no such feature table.')
    return experiment, survey, split, problems


def _look_at_values(survey: Survey, experiment: Experiment) -> tuple[str, list[str]]:
    """The scale that the cells would have, and what is wrong with their values; none of them is kept."""
    scales, problems = {}, []
    for file in track(survey.files, "looking at values"):
        try:
            with opened(file.path) as group:
                matrix = stored_matrix(group, file.path, file.embedding)
                facts = matrix.look()
            if file.is_expression:
                found = facts.scale(file.uns, experiment.columns.get("scale"), matrix.where)
            else:
                facts.refuse_bad_values(matrix.where)
                found = "embedding"
        except StateshiftError as error:
            problems.append(str(error))
            continue
        scales["log1p_1e4" if found == "counts" else found] = file.name
    problems += scales_that_differ(scales)
    return next(iter(scales), ""), problems
