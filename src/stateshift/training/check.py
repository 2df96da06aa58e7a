"""What an experiment really holds, and all that would stop a training of it (``stateshift check``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stateshift.cells import Experiment, seen_elsewhere, split_counts
from stateshift.cells.checks.coverage import SplitCoverage, coverage_by_split, coverage_problems, untold_by_onehot
from stateshift.cells.checks.inspection import leaks_into, look_at_values, read_labels
from stateshift.cells.checks.leakage import chosen_on_all_cells
from stateshift.cells.splits import FEWEST_TO_KEEP_BACK, split_groups
from stateshift.cells.survey import FoundFile
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import FeatureTable, genes_of, named_otherwise
from stateshift.training.config import idle_words
from stateshift.training.data import feature_request, source_of, unread_features, with_features
from stateshift.training.train import config_words, experiment_config


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


def check_experiment(path: str | Path) -> ExperimentCheck:
    """Read an experiment and its data as training would, and say what is there; no matrix is kept.

    Raises
    ------
    InputProblems
        Everything that would stop training, at once.
    """
    experiment, survey, split, problems, notes = read_labels(path)
    cells = survey.labels()
    scale, more = look_at_values(survey, experiment)
    problems += more
    table, lacking, coverage = None, None, []
    try:
        config = experiment_config(experiment)
        notes += idle_words(config, config_words(experiment))
        problems += unread_features(experiment, config)
        experiment = with_features(experiment, config["features"])
        table = _table(experiment)
        if not problems:
            perturbed = [p for p in cells.obs["perturbation"].unique() if p != cells.control]
            genes = sorted({g for p in perturbed for g in genes_of(p)})
            lacking, later = _lacking(experiment, table, genes)
            notes += later
    except StateshiftError as error:
        problems.append(str(error))
    if lacking is not None:
        groups = split_groups(cells, split)
        coverage = coverage_by_split(groups, set(genes) - set(lacking))
        policy = experiment.features.get("missing", "error")
        problems += coverage_problems(
            coverage, policy, lacking, None if table is not None else _made_of(experiment), table
        )
    if not problems:
        problems = _nothing_to_keep_back(split_groups(cells, split))
    if problems:
        raise InputProblems(str(path), problems)
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
        None if lacking is None else sorted(lacking),
        coverage,
        None if table is None else (len(table), table.width),
        [
            *_left_out(experiment, split_groups(cells, split)),
            *survey.notes,
            *seen_elsewhere(experiment, cells, split),
            *notes,
            *chosen_on_all_cells(survey.files, experiment.path.name),
            *_of_features(table, experiment, split_counts(cells, split)),
            *_named_otherwise(table, coverage),
        ],
        *((len(whole.genes), whole.loaded_bytes) if (whole := survey.every_gene) else ()),
    )


def _table(experiment: Experiment) -> FeatureTable | None:
    """The feature table that an experiment names, where it is there."""
    named = experiment.features.get("table")
    path = None if named is None else experiment.resolve(named)
    return FeatureTable.load(path) if path is not None and path.is_file() else None


def _lacking(
    experiment: Experiment, table: FeatureTable | None, genes: Sequence[str]
) -> tuple[dict[str, str] | None, list[str]]:
    """Gene → why it will have no vector, None where that isn't known before it is made; and a sentence on what isn't."""
    from stateshift.features import feature_source

    if table is not None:
        return dict.fromkeys(table.missing(genes), "not in the table"), []
    if not experiment.features:
        return None, ["[features] names no table and no source: training needs  --pert-features TABLE.pt."]
    name = source_of(experiment)
    source = feature_source(name)
    tells, later = getattr(source, "lacking", None), getattr(source, "later", "")
    if tells is None:
        return None, [f"Which genes have no vector from `{name}` is known once it has made those of the others."]
    policy = experiment.features.get("missing", "error")
    found = tells(feature_request(experiment, list(genes), experiment.path.with_suffix(".features.pt"), policy))
    return found, [f"`{name}` tells of {later} only as it makes the vectors."] if later else []


def _made_of(experiment: Experiment) -> str:
    """The source of the vectors, and the files that it is to read."""
    files = [Path(experiment.features[key]).name for key in ("lookup", "fasta") if key in experiment.features]
    return f"`{source_of(experiment)}`{' of ' * bool(files)}{' and '.join(files)}"


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


def _nothing_to_keep_back(groups: pd.DataFrame) -> list[str]:
    """A problem where no cells are declared to choose the checkpoint by, and none can be spared."""
    trains = groups.loc[groups["split"] == "train", "cells"]
    if (groups["split"] == "val").any() or not len(trains) or trains.max() >= FEWEST_TO_KEEP_BACK:
        return []
    return [
        f"no validation split is declared, and no training group has {FEWEST_TO_KEEP_BACK} cells, of which one could be "
        "kept back: declare one in [zeroshot] or [fewshot]."
    ]


def _left_out(experiment: Experiment, groups: pd.DataFrame) -> list[str]:
    """Sentences on datasets, and cell types of those that are used, which no table mentions."""
    said = [
        f'[datasets] {name} is used by no table and left out; {name} = "train" in [training] takes it in.'
        for name in experiment.spare
    ]
    for name, cell_types in groups[groups["split"] == ""].groupby("dataset", sort=False)["context"]:
        said.append(
            f'Cell types of {name} that no table names are left out ({some(cell_types.unique())}); {name} = "train" in '
            "[training] takes them in."
        )
    return said
