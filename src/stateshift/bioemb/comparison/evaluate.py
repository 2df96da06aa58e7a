"""One command, one table, one plot: what a fine-tuned table is good for, beside what is cheaper."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stateshift.bioemb.comparison.rows import compared_tables, read_source
from stateshift.bioemb.downstream.head import head_predictions
from stateshift.bioemb.downstream.labels import Labels, read_labels
from stateshift.bioemb.downstream.scores import LOWER_IS_BETTER, MEASURES, resamples, scores
from stateshift.bioemb.downstream.splits import Split, make_split
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.files import new_folder, written_beside
from stateshift.progress import track
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """A row of the comparison.

    Parameters
    ----------
    table, width
        Which, and how many values a vector has.
    measure
        One of `MEASURES`.
    mean, low, high
        Over seeds, with the 95 % percentile interval of resampled names (or groups).
    less_raw, less_raw_low, less_raw_high
        The same of the difference to the raw table, resample by resample.
    seeds
        The score of each seed.
    """

    table: str
    width: int
    measure: str
    mean: float
    low: float
    high: float
    less_raw: float
    less_raw_low: float
    less_raw_high: float
    seeds: tuple[float, ...]


@left_alone()
def evaluate_bioemb(
    labels: str | Path,
    output: str | Path,
    *,
    run: str | Path | None = None,
    table: str | Path | None = None,
    mlm: str | Path | None = None,
    width: int | None = None,
    split: str = "random",
    seeds: int = 3,
    name_column: str | None = None,
    label_column: str = "label",
    task_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    task: str = "auto",
) -> list[Score]:
    """The same head on a run's raw table, its PCA, a random projection, MLM, random codes and BioEmb.

    Parameters
    ----------
    labels
        A csv or tsv; see `read_labels` for it and its columns.
    output
        A folder for ``scores.csv``, ``scores.png`` and the run on random codes.
    run, table
        A finished run; or a table alone, which has no BioEmb rows.
    mlm
        A run of ``train-mlm``, or a table, for that row.
    width
        Of PCA and projection, with `table`; default 32.
    split
        ``random``, ``grouped`` or ``given``; see `make_split`.
    seeds
        Splits and heads; three at least.
    name_column, label_column, task_column, group_column, split_column, task
        See `read_labels`.

    Raises
    ------
    StateshiftError
        An input can't be used, or the output holds scores already.
    """
    output = Path(output)
    if seeds < 3:
        raise StateshiftError(f"--seeds {seeds}: three at least are needed to tell luck from skill.")
    if (output / "scores.csv").exists():
        raise StateshiftError(f"{output} holds scores already: choose another folder with --output.")
    known = read_labels(
        labels,
        name_column=name_column,
        label_column=label_column,
        task_column=task_column,
        group_column=group_column,
        split_column=split_column,
        task=task,
    )
    source = read_source(run, table, width)
    found = known.among(source.raw.genes, str(labels))
    splits = [make_split(found, split, seed) for seed in range(seeds)]
    if not (output / "random_codes").is_dir():
        new_folder(output)
    logger.info("%d names, %s; %s split, %d seeds.", len(found.names), _told(found), split, seeds)
    seen = set(source.fitted)
    tested = {found.names[place] for s in splits for place in s.test}
    logger.info(
        "%s fitted on vectors, never on labels: of %d of these names, and of %d of the %d that are tested.",
        "PCA is" if run is None else "PCA and BioEmb are", len(seen.intersection(found.names)), len(seen & tested), len(tested),
    )  # fmt: skip
    compared = compare_tables(compared_tables(source, mlm, output), found, splits)
    _write(compared, output)
    return compared


def compare_tables(tables: dict[str, FeatureTable], labels: Labels, splits: Sequence[Split]) -> list[Score]:
    """Scores of every table on the same splits, in the tables' order; the first is what others are compared with."""
    # a name counts as often in every seed's test and for every table, so that differences are paired
    weights = resamples(len(labels.names), labels.groups)
    drawn: dict[str, np.ndarray] = {}
    for name, table in track(tables.items(), "Heads on tables", total=len(tables)):
        vectors = table.subset(labels.names).vectors
        drawn[name] = np.stack(
            [
                scores(
                    labels.task, labels.values[s.test], head_predictions(vectors, labels, s, seed), weights[:, s.test]
                )
                for seed, s in enumerate(splits)
            ]
        )
    measure = MEASURES[labels.task]
    first = next(iter(drawn.values()))
    return [_score(name, tables[name].width, measure, each, first) for name, each in drawn.items()]


def _score(name: str, width: int, measure: str, drawn: np.ndarray, first: np.ndarray) -> Score:
    """Of scores (seeds, 1 + draws), those of all names first."""
    mean, less = drawn.mean(axis=0), (drawn - first).mean(axis=0)
    low, high = np.nanquantile(mean[1:], [0.025, 0.975])
    less_low, less_high = np.nanquantile(less[1:], [0.025, 0.975])
    own = tuple(float(x) for x in drawn[:, 0])
    numbers = (mean[0], low, high, less[0], less_low, less_high)
    return Score(name, width, measure, *(float(x) for x in numbers), own)


def _told(labels: Labels) -> str:
    if labels.task == "calls":
        return f"{len(labels.classes)} questions"
    return "values" if labels.task == "regression" else f"{len(labels.classes)} classes"


def _write(compared: Sequence[Score], output: Path) -> None:
    """``scores.png``, then ``scores.csv``, by which an output counts as taken."""
    plot_scores(compared, output / "scores.png")
    with written_beside(output / "scores.csv") as part, part.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(asdict(compared[0])))
        table.writeheader()
        for score in compared:
            table.writerow(asdict(score) | {"seeds": " ".join(f"{x:.6f}" for x in score.seeds)})


def plot_scores(compared: Sequence[Score], path: Path) -> None:
    """A dot and an interval a table, each seed a small mark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.5 * len(compared) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, score in enumerate(reversed(compared)):
        axes.plot([score.low, score.high], [y, y], color="#4c72b0", linewidth=2)
        axes.plot(score.seeds, [y] * len(score.seeds), "|", color="#999999", markersize=9)
        axes.plot(score.mean, y, "o", color="#4c72b0")
    axes.set_yticks(range(len(compared)), [f"{score.table} ({score.width})" for score in reversed(compared)])
    lower = ", lower is better" if compared[0].measure in LOWER_IS_BETTER else ""
    axes.set_xlabel(f"{compared[0].measure}{lower}; mean of seeds with 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    with written_beside(path, overwrite=True) as part:
        figure.savefig(part, dpi=150)
