"""A sweep's runs side by side: one row a combination, its seeds averaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stateshift.errors import StateshiftError
from stateshift.evaluation.evaluator import Evaluation
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.evaluation.tables import number
from stateshift.files import written_beside
from stateshift.run import RunDirectory
from stateshift.training.sweep import SweepFolder
from stateshift.training.sweep.folder import STATES

if TYPE_CHECKING:
    from rich.table import Table

VALIDATION = "val_pearson_delta"
REPEATED = "seed"
"""The swept key that makes repetitions of a combination, not combinations."""


@dataclass
class SweepComparison:
    """Combinations of a sweep beside each other.

    Parameters
    ----------
    rows
        One row a combination, the highest validation Pearson delta first: a column a swept key but the seed, ``runs``
        and how many of them are ``finished``, ``failed``, ``unfinished`` and ``waiting``; mean and standard deviation (``_sd``) over
        finished runs of ``val_pearson_delta`` at the best checkpoint and of ``EVALUATION/METRIC`` of every
        evaluation that lies in the runs; ``seconds``, the mean wall time of a finished run.
    keys
        The swept keys that tell rows apart.
    notes
        A sentence on each run that failed, and on those that are unfinished or not begun.
    """

    rows: pd.DataFrame
    keys: list[str]
    notes: list[str]

    @property
    def measures(self) -> list[str]:
        """The columns that have a mean and a deviation."""
        return [name for name in self.rows.columns if f"{name}_sd" in self.rows.columns]


def compare_sweep(sweep: str | Path, *, output: str | Path | None = None, overwrite: bool = False) -> SweepComparison:
    """The table of a sweep, finished or at work.

    Parameters
    ----------
    sweep
        The folder that ``stateshift train --multirun`` made. Evaluations count that lie in its run directories
        (``stateshift evaluate … -o RUN/NAME``), by their name.
    output
        A CSV file for the rows.
    overwrite
        Replace `output`.

    Raises
    ------
    StateshiftError
        The folder is no sweep, a part of it is damaged, or `output` exists.
    """
    folder = SweepFolder(Path(sweep))
    records = folder.records()
    keys = [key for key in folder.settings()["swept"] if key != REPEATED]
    runs = pd.DataFrame(
        [
            {
                **{key: _shown(record.values[key]) for key in keys},
                "state": record.state,
                **(_measured(folder.run(name)) | {"seconds": record.seconds} if record.state == "finished" else {}),
            }
            for name, record in records.items()
        ]
    )
    if runs.empty:
        raise StateshiftError(f"{folder.path} holds no run yet.")
    rows = _averaged(runs, keys)
    comparison = SweepComparison(rows, keys, _notes(records) + _without_score(records, runs))
    if output is not None:
        with written_beside(output, overwrite) as part:
            rows.to_csv(part, index=False)
    return comparison


def sweep_table(comparison: SweepComparison) -> Table:
    """The rows as a rich table."""
    from rich.table import Table

    table = Table(caption="mean ± standard deviation over the seeds of finished runs")
    for key in comparison.keys:
        table.add_column(key)
    table.add_column("runs", justify="right")
    for measure in comparison.measures:
        table.add_column(measure, justify="right")
    table.add_column("minutes a run", justify="right")
    for row in comparison.rows.to_dict("records"):
        runs = f"{row['finished']}" if row["finished"] == row["runs"] else f"{row['finished']} of {row['runs']}"
        cells = [_with_deviation(row[name], row[f"{name}_sd"]) for name in comparison.measures]
        table.add_row(*(row[key] for key in comparison.keys), runs, *cells, number(row["seconds"] / 60))
    return table


def _measured(run: RunDirectory) -> dict[str, float]:
    """A finished run's validation at its best checkpoint, and its evaluations."""
    best = "val_loss" if run.config()["training"]["select_by"] == "val_loss" else VALIDATION
    try:
        curve = pd.read_csv(run.metrics_file)
        column = curve[best].astype(float).dropna()
        found = {VALIDATION: float("nan")}  # as where every measured shift of the validation cells is zero
        if len(column):
            found = {VALIDATION: float(curve[VALIDATION][column.idxmin() if best == "val_loss" else column.idxmax()])}
    except (OSError, KeyError, ValueError) as error:
        raise StateshiftError(f"{run.metrics_file} is damaged: {error}.") from error
    for path in sorted(run.path.rglob("evaluation.json")):
        name = path.parent.relative_to(run.path).as_posix()
        evaluation = Evaluation.load(path.parent)
        summary = evaluation.summary
        own = summary[(summary["context"] == ALL) & (summary["model"] == evaluation.model)].set_index("metric")["mean"]
        found |= {f"{name}/{metric}": float(own[metric]) for metric in METRICS if metric in own}
    return found


def _averaged(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    measures = [name for name in runs.columns if name == VALIDATION or "/" in name]
    grouped = runs.groupby(keys, sort=False) if keys else [((), runs)]
    rows: list[dict[str, Any]] = []
    for values, members in grouped:
        state = members["state"]
        row = dict(zip(keys, values)) | {"runs": len(members)}
        row |= {name: int((state == name).sum()) for name in STATES}
        for name in measures:
            row |= {name: members[name].mean(), f"{name}_sd": members[name].std()}
        row["seconds"] = members["seconds"].mean() if "seconds" in members else float("nan")
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values(VALIDATION, ascending=False, ignore_index=True) if VALIDATION in table else table


def _notes(records: dict[str, Any]) -> list[str]:
    failed = [f"{name} failed: {record.error}" for name, record in records.items() if record.state == "failed"]
    unfinished, waiting = (
        [name for name, record in records.items() if record.state == state] for state in ("unfinished", "waiting")
    )
    if unfinished:
        failed.append(
            f"{len(unfinished)} at work or stopped: {', '.join(unfinished)}; the same train command goes on with what "
            "was stopped."
        )
    if waiting:
        failed.append(f"{len(waiting)} not begun: {', '.join(waiting)}.")
    return failed


def _without_score(records: dict[str, Any], runs: pd.DataFrame) -> list[str]:
    """A note on finished runs whose validation gave no number: they count in no mean."""
    if VALIDATION not in runs:
        return []
    lacking = ((runs["state"] == "finished") & runs[VALIDATION].isna()).to_numpy()
    names = [name for name, without in zip(records, lacking) if without]
    return [f"Finished without a validation score, and in no mean: {', '.join(names)}."] if names else []


def _shown(value: Any) -> str:
    """A swept value as Hydra writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _with_deviation(mean: float, deviation: float) -> str:
    return f"{number(mean)} ± {number(deviation)}" if deviation == deviation else number(mean)
