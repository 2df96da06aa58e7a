"""What an experiment really holds: files, columns, cells, splits, feature coverage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment, read_experiment
from stateshift.cells.loading import load_cells, read_file
from stateshift.cells.splits import assign_splits, split_counts
from stateshift.feature_table import FeatureTable, genes_of


@dataclass
class ExperimentCheck:
    """What `check_experiment` found.

    Parameters
    ----------
    experiment
        The TOML as read.
    columns
        File name → its columns.
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
    columns: dict[str, Columns]
    n_cells: int
    n_genes: int
    n_controls: int
    scale: str
    counts: dict[str, dict[str, dict[str, int]]]
    genes: list[str]
    uncovered: list[str] | None
    notes: list[str] = field(default_factory=list)


def check_experiment(path: str | Path) -> ExperimentCheck:
    """Read an experiment and its data as training would, and say what is there.

    Raises
    ------
    InputProblems
        Everything that would stop training, at once.
    """
    experiment = read_experiment(path)
    cells = load_cells(experiment)
    split = assign_splits(experiment, cells)
    counts = split_counts(cells, split)
    genes = sorted({g for p in cells.obs["perturbation"].unique() if p != cells.control for g in genes_of(p)})
    columns = {
        file.name: find_columns(read_file(file, with_matrix=False).obs, experiment.columns, file.name)
        for files in experiment.datasets.values()
        for file in files
    }
    notes = []
    if not counts["test"]:
        notes.append("No test split is declared: a run trains on everything, and nothing can be scored afterwards.")
    if not counts["val"]:
        notes.append("No validation split is declared: a tenth of the training cells chooses the checkpoint.")
    uncovered = None
    if "table" in experiment.features:
        table = FeatureTable.load(experiment.resolve(experiment.features["table"]))
        uncovered = table.missing(genes)
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
