"""The report's part on a run directory: data, splits, features, curves; what is absent is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stateshift.cells import REGIMES
from stateshift.errors import StateshiftError, first_line, some
from stateshift.evaluation.report import page
from stateshift.evaluation.report.figures.canvas import inline_svg
from stateshift.evaluation.report.figures.curves import learning_curves, loss_columns
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import yaml_text
from stateshift.run import RunDirectory
from stateshift.training.anchored import read_verdicts
from stateshift.training.anchored.keeping import RECORD

PARTS = ("config.yaml", "experiment.toml", "genes.txt", "features.pt", "splits.json", "metrics.csv", "versions.json")


def run_section(run: Path, name: str, anchor: str) -> list[str]:
    """HTML of one run directory."""
    splits = RunDirectory(run).splits() if (run / "splits.json").is_file() else {}
    lines = [page.heading(f"Run {name}", anchor=anchor)]
    lines.append(page.paragraph(_trained_on(run, splits)))
    lines.append(page.facts({"genes": f"{len(RunDirectory(run).genes()):,}", **_cells_a_split(splits)}))
    lines += _splits(splits)
    lines += _features(run, splits)
    lines += _curves(run)
    lines += _kept(run)
    for part in ("experiment.toml", "config.yaml", "versions.json"):
        if (run / part).is_file():
            lines.append(page.folded(part, (run / part).read_text(errors="replace")))
    absent = [part for part in PARTS if not (run / part).is_file()]
    if not (run / "checkpoints").is_dir():
        absent.append("checkpoints/")
    if absent:
        lines.append(page.paragraph(f"Not in this run directory: {', '.join(absent)}.", "soft"))
    return lines


def _trained_on(run: Path, splits: dict[str, Any]) -> str:
    """What was trained on what, as far as the run says."""
    config = _yaml(run / "config.yaml")
    model = config.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    steps = config.get("training", {}).get("max_steps") if isinstance(config.get("training"), dict) else None
    said = f"{name or 'A model that config.yaml does not name'} was trained"
    if isinstance(steps, int):
        said += f" for up to {steps:,} steps"
    train = splits.get("train", {})
    if train:
        n = len({perturbation for found in train.values() for perturbation in found})
        said += f" on {n:,} perturbations in {counted_contexts(train)}"
    files = _data_files(run)
    return said + (f" of {some(files, 4)}." if files else ".")


def counted_contexts(contexts: Mapping[str, Any]) -> str:
    """How many contexts, and which.

    Examples
    --------
    >>> counted_contexts({"K562": {}, "RPE1": {}})
    '2 contexts (K562, RPE1)'
    """
    return f"{len(contexts)} context{'s' if len(contexts) != 1 else ''} ({some(sorted(contexts), 6)})"


def _data_files(run: Path) -> list[str]:
    """The names of the data files, not their places, which are nobody's business but the user's."""
    import toml

    try:
        datasets = toml.loads((run / "experiment.toml").read_text()).get("datasets", {})
    except (OSError, ValueError, IndexError, TypeError, RecursionError):  # what `toml` makes of damage
        return []
    return [Path(str(path)).name for path in datasets.values()]


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        held = yaml.safe_load(yaml_text(path)) if path.is_file() else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _cells_a_split(splits: dict[str, Any]) -> dict[str, str]:
    return {
        f"{split} cells": f"{sum(sum(perturbations.values()) for perturbations in contexts.values()):,}"
        for split, contexts in splits.items()
    }


def _splits(splits: dict[str, Any]) -> list[str]:
    rows = [
        (split, context, len(found), f"{sum(found.values()):,}", some(sorted(found), 12))
        for split, contexts in splits.items()
        for context, found in contexts.items()
    ]
    if not rows:
        return [page.paragraph("No splits.json: which cells were trained on is not known here.", "soft")]
    header = ("split", "context", "perturbations", "cells", "which")
    return [page.heading("What was trained on, and what was held out", 3), page.table(header, rows, words=True)]


def _features(run: Path, splits: dict[str, Any]) -> list[str]:
    lines = [page.heading("Features of the perturbations", 3)]
    if not (run / "features.pt").is_file():
        return [*lines, page.paragraph("No features.pt here.", "soft")]
    try:
        table = FeatureTable.load(run / "features.pt")
    except StateshiftError as error:
        return [*lines, page.paragraph(str(error), "note")]
    wanted = {g for contexts in splits.values() for found in contexts.values() for p in found for g in genes_of(p)}
    covered = sorted(g for g in wanted if g in table)
    without = sorted(wanted - set(covered))
    known = {key: table.provenance[key] for key in ("source", "model", "pooling", "date") if key in table.provenance}
    if "date" in known:
        known["date"] = str(known["date"])[:10]
    shown = {"genes with a vector": f"{len(table):,}", "width": f"{table.width:,}", **known}
    lines.append(page.facts(shown))
    if wanted:
        ending = f"; without one: {some(without)}." if without else "."
        lines.append(page.paragraph(f"{len(covered)} of the splits' {len(wanted)} genes have a vector{ending}"))
    told = {key: value for key, value in table.provenance.items() if isinstance(value, (str, int, float))}
    if told:
        lines.append(page.folded("what the features were made of", json.dumps(told, indent=2, ensure_ascii=False)))
    return lines


def _curves(run: Path) -> list[str]:
    lines = [page.heading("Training", 3)]
    path = run / "metrics.csv"
    if not path.is_file():
        return [*lines, page.paragraph("No metrics.csv: the run holds no training curves.", "soft")]
    try:
        metrics = pd.read_csv(path)
        figure = learning_curves(metrics)
    except (ValueError, TypeError, KeyError) as error:
        return [*lines, page.paragraph(f"metrics.csv can't be read: {first_line(error)}", "note")]
    if figure is None:
        return [*lines, page.paragraph("metrics.csv holds no loss yet.", "soft")]
    svg = inline_svg(figure, "Learning curves: " + ", ".join(loss_columns(metrics)))
    return [*lines, page.figure(svg, "Losses as metrics.csv has them" + _best_step(metrics))]


def _best_step(metrics: pd.DataFrame) -> str:
    """The step of the lowest validation loss, as the end of a caption."""
    if not {"step", "val_loss"} <= set(metrics) or not metrics["val_loss"].notna().any():
        return "."
    best = metrics.loc[metrics["val_loss"].idxmin()]
    return f"; the lowest validation loss, {best['val_loss']:.4g}, is that of step {int(best['step']):,}."


def _kept(run: Path) -> list[str]:
    """Where a network is kept beside its backbone; nothing of other runs."""
    if not (run / RECORD).is_file():
        return []
    lines = [page.heading("Where the network is kept beside its backbone", 3)]
    try:
        found = read_verdicts(RunDirectory(run))
    except StateshiftError as error:
        return [*lines, page.paragraph(str(error), "note")]
    header = ("regime", "network", "backbone", "difference", "95 % interval", "perturbations", "predicts")
    rows = [
        (
            f"{regime}: {REGIMES[regime]}", f"{v.network:.3f}", f"{v.backbone:.3f}", f"{v.mean:+.3f}",
            f"{v.low:+.3f} to {v.high:+.3f}" if v.interval else "too few to judge", v.perturbations, "network" if v.kept else "backbone",
        )
        for regime, v in found.items()
    ]  # fmt: skip
    text = "Pearson delta of validation pairs; the interval holds for all steps at once. Other regimes: the backbone."
    return [*lines, page.table(header, rows), page.paragraph(text, "soft")]
