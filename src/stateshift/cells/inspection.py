"""What an experiment really holds: files, columns, cells, splits, feature coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment, parse_experiment
from stateshift.cells.loading import collect_cells, read_file
from stateshift.cells.population import Cells
from stateshift.cells.splits import find_splits, seen_elsewhere, split_counts
from stateshift.errors import InputProblems
from stateshift.feature_table import FeatureTable, genes_of


@dataclass
class ExperimentCheck:
    """What `check_experiment` found.

    Parameters
    ----------
    experiment
        The TOML as read.
    columns
        File → its columns.
    n_cells, n_genes, n_controls, scale
        Of all files together.
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
    columns: dict[Path, Columns]
    n_cells: int
    n_genes: int
    n_controls: int
    scale: str
    counts: dict[str, dict[str, dict[str, int]]]
    genes: list[str]
    uncovered: list[str] | None
    notes: list[str] = field(default_factory=list)


def read_all(
    path: str | Path, columns: Mapping[str, str] | None = None, *, beside_only: bool = False
) -> tuple[Experiment, Cells, np.ndarray]:
    """An experiment, its cells and the split of each, or all that is wrong with any of them.

    Parameters
    ----------
    path, columns, beside_only
        As `read_experiment` takes them.

    Raises
    ------
    InputProblems
        The problems of the TOML, of the files and of the splits together.
    """
    experiment, problems = parse_experiment(path, columns, beside_only=beside_only)
    cells, more = collect_cells(experiment)
    problems += more
    split = np.array([], dtype=str)
    if cells is not None:
        split, more = find_splits(experiment, cells)
        problems += more
    table = experiment.features.get("table")
    if table is not None and not experiment.resolve(table).is_file():
        problems.append(f'[features] table = "{table}": there is no such feature table.')
    if problems or cells is None:
        raise InputProblems(str(path), problems)
    return experiment, cells, split


def check_experiment(path: str | Path) -> ExperimentCheck:
    """Read an experiment and its data as training would, and say what is there.

    Raises
    ------
    InputProblems
        Everything that would stop training, at once.
    """
    experiment, cells, split = read_all(path)
    counts = split_counts(cells, split)
    genes = sorted({g for p in cells.obs["perturbation"].unique() if p != cells.control for g in genes_of(p)})
    columns = {
        file: find_columns(read_file(file, with_matrix=False).obs, experiment.columns, file.name)
        for files in experiment.datasets.values()
        for file in files
    }
    notes = seen_elsewhere(experiment, cells, split)
    if not counts["test"]:
        notes.append("No test split is declared: a run trains on everything, and nothing can be scored afterwards.")
    if not counts["val"]:
        notes.append("No validation split is declared: a tenth of the training cells chooses the checkpoint.")
    ensembl = sum(g.startswith("ENS") for g in cells.genes)
    if ensembl > len(cells.genes) / 2:
        notes.append("var_names look like Ensembl ids: gene symbols are needed to predict and to submit by name.")
    uncovered = None
    if "table" in experiment.features:
        uncovered = FeatureTable.load(experiment.resolve(experiment.features["table"])).missing(genes)
    return ExperimentCheck(
        experiment,
        columns,
        len(cells),
        len(cells.genes),
        int(cells.is_control.sum()),
        cells.scale,
        counts,
        genes,
        uncovered,
        notes,
    )
