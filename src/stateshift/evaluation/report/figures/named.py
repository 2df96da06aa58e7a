"""Figures by name, a file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from stateshift.errors import StateshiftError, suggestion
from stateshift.evaluation.report.detail import effect_map
from stateshift.evaluation.report.figures.canvas import without_mathematics
from stateshift.evaluation.report.figures.curves import learning_curves
from stateshift.evaluation.report.figures.intervals import calibration
from stateshift.evaluation.report.figures.pairs import maps, scatter, volcano
from stateshift.evaluation.report.figures.scores import against_baseline, best_baseline, by_perturbation, model_means
from stateshift.evaluation.report.sources import Source, read_source
from stateshift.files import written_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
DPI = 300


@dataclass(frozen=True)
class Named:
    """A figure's description, what draws it, and whether it needs cells."""

    about: str
    draw: Callable[[Source, str | None, str | None], Figure]
    of_cells: bool = True


def write_figure(
    name: str,
    source: Path | str,
    output: Path | str,
    *,
    perturbation: str | None = None,
    context: str | None = None,
    prediction: Path | str | None = None,
    truth: Path | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    scale: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one of the report's figures as SVG, PNG or PDF.

    Parameters
    ----------
    name
        One of `FIGURES`.
    source, prediction, truth, columns, scale
        As in `stateshift.evaluation.write_report`.
    output
        A ``.svg``, ``.png`` (300 dots an inch) or ``.pdf`` file.
    perturbation, context
        The pair of ``scatter`` and ``volcano``; by default the one of median Pearson delta.
    overwrite
        Replace an existing file.

    Raises
    ------
    StateshiftError
        There is no such figure, suffix or pair, or the source lacks what the figure shows.
    """
    output = Path(output)
    if name not in FIGURES:
        raise StateshiftError(f"There is no figure `{name}`{suggestion(name, FIGURES)}.")
    if output.suffix.lower() not in SUFFIXES:
        raise StateshiftError(f"{output}: a figure is written as {', '.join(SUFFIXES)}.")
    of = FIGURES[name]
    found = read_source(source, prediction=prediction, truth=truth, columns=columns, scale=scale, detailed=of.of_cells)
    figure = of.draw(found, perturbation, context)
    import matplotlib

    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
        written_beside(output, overwrite) as part,
    ):
        figure.patch.set_alpha(1)
        metadata = {"Date": None} if output.suffix.lower() == ".svg" else None
        without_mathematics(figure).savefig(part, dpi=DPI, metadata=metadata)
    return output


def _evaluation(found: Source):
    if not found.evaluations:
        raise StateshiftError(
            f"{found.name} holds no evaluation: evaluate first, or name cells with --prediction and --truth."
        )
    return next(iter(found.evaluations.values()))


def _with_truth(found: Source):
    if found.detail is None or found.detail.measured is None:
        said = "Name the measured cells with --truth." if found.detail is not None else " ".join(found.absent)
        raise StateshiftError(f"This figure needs predicted and measured cells. {said}")
    return found.detail


def _baseline(found: Source) -> str:
    baseline = best_baseline(_evaluation(found))
    if baseline is None:
        raise StateshiftError(f"{found.name}: no baseline has a Pearson delta, for the true effects are constant.")
    return baseline


def _curves(found: Source, *_: str | None) -> Figure:
    files = [run / "metrics.csv" for run in found.runs.values() if (run / "metrics.csv").is_file()]
    if not files:
        raise StateshiftError(f"{found.name} holds no run with learning curves (metrics.csv).")
    try:
        figure = learning_curves(pd.read_csv(files[0]))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StateshiftError(f"{files[0]} can't be read: {error}") from error
    if figure is None:
        raise StateshiftError(f"{files[0]} holds no loss yet.")
    return figure


def _calibration(found: Source, *_: str | None) -> Figure:
    figure = calibration(_with_truth(found))
    if figure is None:
        raise StateshiftError("The prediction gives no intervals, so there is nothing to calibrate.")
    return figure


def _scatter(found: Source, perturbation: str | None, context: str | None) -> Figure:
    detail = _with_truth(found)
    return scatter(detail, detail.row_of(perturbation, context))


def _volcano(found: Source, perturbation: str | None, context: str | None) -> Figure:
    detail = _with_truth(found)
    return volcano(detail, detail.row_of(perturbation, context))


def _map(found: Source, *_: str | None) -> Figure:
    by_name = maps_of(found)
    if not by_name:
        raise StateshiftError(f"A map needs predicted cells of three pairs. {' '.join(found.absent)}")
    return maps(found.detail, by_name)


def maps_of(found: Source) -> dict:
    """The maps that a source gives, by their titles."""
    by_effect = None if found.detail is None else effect_map(found.detail)
    named = {"by predicted effect": by_effect, "by features": found.features}
    return {title: of for title, of in named.items() if of is not None}


FIGURES = {
    "scores": Named("means of all models beside each other", lambda s, *_: model_means(_evaluation(s)), False),
    "perturbations": Named(
        "each pair's score and the best baseline's",
        lambda s, *_: by_perturbation(_evaluation(s), _baseline(s))[0],
        False,
    ),
    "against-baseline": Named(
        "each pair's score over the best baseline's",
        lambda s, *_: against_baseline(_evaluation(s), _baseline(s)),
        False,
    ),
    "scatter": Named("predicted over measured changes of a pair", _scatter),
    "volcano": Named("significance over measured changes of a pair", _volcano),
    "calibration": Named("what the intervals hold, by level and width", _calibration),
    "learning-curves": Named("losses of a run", _curves, False),
    "map": Named("pairs in two dimensions, by predicted effect and by features", _map),
}
