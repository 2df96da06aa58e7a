"""Models × features × seeds on one experiment, stage by stage, in one table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import stateshift
from stateshift.cells import REGIMES, Experiment, read_experiment
from stateshift.cells.checks.leakage import leak_notes
from stateshift.effects.models import code_of
from stateshift.errors import StateshiftError, some
from stateshift.evaluation.ceilings import percent
from stateshift.evaluation.comparison.experiment.candidates import NO_FEATURES, Candidate, candidates, feature_tables
from stateshift.evaluation.comparison.experiment.elsewhere import Elsewhere, from_elsewhere, refuse_absent_files
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder
from stateshift.evaluation.comparison.experiment.predicting import Predictor
from stateshift.evaluation.comparison.experiment.stages import FoldEffects, best_possible, fold_effects
from stateshift.evaluation.comparison.experiment.work import collect, launcher_words, work_by_launcher, work_here
from stateshift.evaluation.comparison.figure import draw_comparison
from stateshift.evaluation.comparison.flagged import flagged
from stateshift.evaluation.comparison.rows import ALL, PAIR, comparison_rows
from stateshift.evaluation.flags import flags_frame
from stateshift.feature_table import FeatureTable, named_otherwise
from stateshift.files import sha256, written_beside
from stateshift.training.config import training_settings
from stateshift.training.data import refuse_unread_features, storage_of
from stateshift.training.train import experiment_config

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger(__name__)

DEFAULT_MODELS = ("stack",)


@dataclass
class ExperimentComparison:
    """Models beside each other on one experiment.

    Parameters
    ----------
    rows
        As `comparison_rows` gives them.
    folder
        Where the parts, ``table.csv``, ``scores.csv`` (a row a candidate and pair), ``flags.csv`` and ``comparison.png`` lie.
    notes
        Sentences on what failed, what had no vector and what may leak.
    flags
        What the scores don't say of predicted effects (`flagged`), as in ``flags.csv``.
    """

    rows: pd.DataFrame
    folder: Path
    notes: list[str] = field(default_factory=list)
    flags: pd.DataFrame = field(default_factory=lambda: flags_frame([]))


def compare_experiment(
    experiment: str | Path,
    *,
    models: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    folds: str | None = None,
    n_folds: int = 5,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
) -> ExperimentComparison:
    """Fit, train, predict and score models on one experiment; `stateshift.evaluation.compare` says how."""
    read = read_experiment(experiment)
    overrides, launcher = launcher_words(overrides)
    config = experiment_config(read, overrides)
    if features is None and "table" not in read.features:  # beside a table, a model of the comparison may read more
        refuse_unread_features(read, config)
    if not seeds or min(seeds) < 0:
        raise StateshiftError("--seeds: whole numbers of at least 0 are needed, as 0,1,2.")
    regime = f"_{folds}" if folds else ""
    root = Path(read.run.get("output_dir") or config["output_dir"])
    folder = ComparisonFolder(Path(output) if output else root / f"{read.path.stem}_comparison{regime}")
    with folder.alone("features"):
        tables = feature_tables(read, features, folder.path / "features")
    names, elsewhere = from_elsewhere(DEFAULT_MODELS if models is None else models, read.columns)
    chosen = candidates(names, list(tables), list(dict.fromkeys(seeds)))
    chosen += [Candidate(name, False, NO_FEATURES, seeds[0]) for name in elsewhere]
    for candidate in chosen:
        if candidate.is_network:
            words = [*overrides, f"model={candidate.model}", f"seed={candidate.seed}"]
            training_settings(experiment_config(read, words))
    codes = {c.model: code for c in chosen if not c.is_network and (code := code_of(c.model))}
    folder.begin(_settings(read, folds, n_folds, overrides), tables, codes)
    parts = fold_effects(folder, read, folds, n_folds, storage_of(config))
    refuse_absent_files(elsewhere, [part.name for part in parts], folder.path)
    chosen = list(dict.fromkeys([*folder.finished(part.name for part in parts), *chosen]))
    notes = _on_features(parts, tables, chosen)
    predictor = Predictor(folder, tables, overrides, elsewhere)
    _refuse_changed(folder, predictor, parts, [c for c in chosen if c.model in elsewhere])
    if launcher:
        work_by_launcher(folder, read.path, parts, chosen, predictor, launcher)
    else:
        work_here(folder, parts, chosen, predictor)
    chosen = list(dict.fromkeys([*folder.finished(part.name for part in parts), *chosen]))
    scores, lacking = collect(folder, parts, chosen)
    notes += lacking
    if scores is None:
        raise StateshiftError(f"Nothing could be compared: {some(notes, 3)}")
    notes += _not_predicted(scores, elsewhere)
    truths = {part.name: part for part in parts}
    rows = comparison_rows(scores, lambda pairs: _ceiling(truths, pairs))
    scored = [c for c in chosen if c in folder.finished(part.name for part in parts)]
    flags = flagged(folder, parts, scored)
    with folder.alone("table"):
        for name, table in (("table.csv", rows), ("scores.csv", scores), ("flags.csv", flags)):
            with written_beside(folder.path / name, overwrite=True) as part:
                table.to_csv(part, index=False)
        draw_comparison(rows, folder.path / "comparison.png")
    return ExperimentComparison(rows, folder.path, notes, flags)


def _settings(experiment: Experiment, folds: str | None, n_folds: int, overrides: Sequence[str]) -> dict:
    """What all parts rest on; a file that was written again since is another file."""
    files = sorted(path for paths in experiment.datasets.values() for path in paths)
    found = [{"file": p.name, "bytes": p.stat().st_size, "written": p.stat().st_mtime_ns} for p in files]
    return {
        "experiment": experiment.path.name,
        "experiment_sha256": sha256(experiment.path),
        "files": found,
        "folds": folds,
        "n_folds": n_folds if folds else None,
        "overrides": list(overrides),
        "version": stateshift.__version__,
    }


def _ceiling(parts: dict[str, FoldEffects], pairs: pd.DataFrame) -> float:
    """`best_possible` over pairs of several folds, a fold counting by its pairs."""
    found, weights = [], []
    for name, of_fold in pairs.groupby("fold"):
        truth = parts[name].truth
        row = {pair: i for i, pair in enumerate(zip(truth.contexts, truth.perturbations))}
        rows = [row[pair] for pair in of_fold[PAIR[1:]].itertuples(index=False, name=None)]
        found.append(best_possible(truth, rows))
        weights.append(len(rows))
    found, weights = np.array(found), np.array(weights)
    known = np.isfinite(found)
    return float(np.average(found[known], weights=weights[known])) if known.any() else float("nan")


def _refuse_changed(folder: ComparisonFolder, by: Predictor, parts: list[FoldEffects], chosen: list[Candidate]) -> None:
    """A file of elsewhere has to predict what it predicted when it was scored."""
    for candidate in chosen:
        for part in parts:
            kept = folder.read_prediction(part.name, candidate)
            if kept is not None and not np.array_equal(kept[0], by(candidate, part)[0]):
                raise StateshiftError(
                    f"{by.elsewhere[candidate.model].file(part.name)} predicts other effects than those that {folder.path} holds "
                    f"as `{candidate.model}`: rename it, or choose another --output."
                )


def _not_predicted(scores: pd.DataFrame, elsewhere: dict[str, Elsewhere]) -> list[str]:
    """A sentence on the pairs that files of elsewhere don't hold."""
    notes = []
    for name in elsewhere:
        rows = scores[(scores["model"] == name) & (scores["route"] == "fallback")]
        if len(rows):
            told = some([f"{row.perturbation} in {row.context}" for row in rows.itertuples()])
            notes.append(f"{name}: {len(rows)} pairs are not predicted and get the mean training effect: {told}.")
    return notes


def _on_features(parts: list[FoldEffects], tables: dict[str, Path], chosen: list[Candidate]) -> list[str]:
    """Sentences on genes without a vector, and on tables that hold what is to be predicted."""
    notes = []
    for label in dict.fromkeys(c.features for c in chosen if c.features in tables):
        table = FeatureTable.load(tables[label])
        for what, verb in (("train", "train nothing"), ("truth", "get the mean training effect")):
            names = sorted({p for part in parts for p in getattr(part, what).perturbations if table.missing([p])})
            if names:
                spelt = named_otherwise(table.missing(names), table.genes)
                notes.append(f"{label}: {len(names)} perturbations have no vector and {verb}: {some(names)}{spelt}.")
        held = {pair for part in parts for pair in zip(part.truth.perturbations, part.truth.contexts)}
        trained = {p for part in parts for p in part.train.perturbations} if len(parts) == 1 else set()
        notes += leak_notes(table, tables[label].name, sorted(held), trained)
    return notes


def experiment_table(comparison: ExperimentComparison) -> Table:
    """The rows as a rich table, a section a regime."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        caption="vs best: Pearson delta less that of the best baseline of the regime (*) [95 % paired bootstrap over "
        "perturbations]; harm: pairs worse than it; gap: share of the way from the context mean to a second experiment "
        f"of the same size. {_legend(comparison.rows)}",
    )
    table.add_column("model, features", overflow="fold", min_width=16)
    for heading in ("Pearson Δ ↑", "vs best", "harm ↓", "gap ↑", "MAE ↓", "PDS ↑"):
        table.add_column(heading, justify="right", no_wrap=heading != "vs best")
    for regime, of_regime in comparison.rows.groupby("regime", sort=False):
        table.add_row(f"{regime} ({of_regime['pairs'].max():,} pairs)", style="bold")
        for row in of_regime.to_dict("records"):
            name = row["model"] if row["features"] == NO_FEATURES else f"{row['model']}, {row['features']}"
            best = name == row["baseline"]
            spread = f" ± {row['sd']:.3f}" if np.isfinite(row["sd"]) else ""
            table.add_row(
                f"{name} *" if best else name,
                _number(row["pearson_delta"]) + spread,
                "" if best else _interval(row),
                "" if best else percent(row["harm"]),
                percent(row["gap_closed"]),
                _number(row["mae"]),
                _number(row["pds_l1"]),
            )
        table.add_row("a second experiment", _number(of_regime["ceiling"].iloc[0]), style="dim")
        table.add_section()
    return table


def _legend(rows: pd.DataFrame) -> str:
    return "; ".join(f"{regime}: {REGIMES[regime]}" for regime in dict.fromkeys(rows["regime"]) if regime != ALL)


def _number(value: float, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.3f}" if np.isfinite(value) else "–"


def _interval(row: dict) -> str:
    low, high = (_number(row[end], signed=True) for end in ("low", "high"))
    return (
        f"{_number(row['difference'], signed=True)} [{low}, {high}]" if low != "–" else _number(row["difference"], True)
    )
