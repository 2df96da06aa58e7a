"""The public `ablate_features`: what each source of a fusion is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.effects.calls.model import refuse_leak
from stateshift.errors import StateshiftError
from stateshift.evaluation.ablation.trials import OnCalls, OnEffects, Trial
from stateshift.evaluation.ablation.variants import fused_parts, of_parts, part_name, shuffled
from stateshift.feature_table import FeatureTable
from stateshift.features.table_files import read_vectors
from stateshift.files import refuse_output, written_beside
from stateshift.genes import GeneNames
from stateshift.progress import track

if TYPE_CHECKING:
    from rich.table import Table

SHUFFLES = 3
"""Draws of shuffled genes that are averaged: one alone may be lucky."""
OF_EXPERIMENT, OF_CALLS = "ridge", "neighbours"
"""The models that measure: the plainest that look at features."""


@dataclass
class Ablation:
    """What the sources of a fused table are worth on inner folds of the training rows.

    Parameters
    ----------
    rows
        One row a source, the most useful first: ``source``; ``genes``, the training targets that it has, and ``coverage``,
        their share; ``columns``; the scores ``without`` it, with its genes ``shuffled`` (mean of three draws) and ``alone``;
        ``gain``, that of all sources over the score without it, and ``gain_of_genes``, over that with its genes shuffled, each
        with ``_low`` and ``_high`` (95 % paired bootstrap over targets).
    whole, none
        The scores with all sources and without any.
    metric
        What the scores are.
    targets
        How many perturbations were held out and scored.
    """

    rows: pd.DataFrame
    whole: float
    none: float
    metric: str
    targets: int


def ablate_features(
    tables: Sequence[str | Path],
    *,
    experiment: str | Path | None = None,
    calls: str | Path | None = None,
    response_features: str | Path | None = None,
    model: str | None = None,
    aliases: str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> Ablation:
    """Measure each source by leaving it out, by shuffling its genes, and alone, on folds that hold genes out.

    Only training rows are read: the folds are of them, and neither the validation nor the test split is looked at. A source
    whose genes are shuffled keeps its width and its coverage, so that what is lost is what it says of which gene.

    Parameters
    ----------
    tables
        One fused table (`stateshift.features.fuse_features`, not reduced), or several tables, which are fused with equal
        weights.
    experiment
        Score on the effects of its training cells: Pearson delta of each (perturbation, context).
    calls
        Or on a table as ``effects fit`` reads it: AUC per response gene of labels, Pearson per perturbation of values.
    response_features
        Of the response genes, for models of calls that look at them.
    model
        An effect model that looks at features (default ``ridge``); of calls one of `MEMBERS` (default ``neighbours``).
    aliases
        HGNC's table, so that a tested target's rows leave training under any name, for calls.
    output
        A CSV file for the rows.
    overwrite
        Replace `output`.

    Raises
    ------
    StateshiftError
        Both inputs or none are named, a table can't be used or was made of the very effects, a fusion was reduced, or too
        few targets have features to hold any out.
    """
    if (experiment is None) == (calls is None):
        raise StateshiftError("Name what to measure on: either --experiment TOML or --calls TABLE.")
    if output is not None:
        refuse_output(output, overwrite)
    fused = fused_parts([Path(table) for table in tables])
    if experiment is not None:
        if response_features is not None or aliases is not None:
            raise StateshiftError("--response-features and --aliases go with --calls: leave them out.")
        trial: Trial = OnEffects.of(Path(experiment), fused, model or OF_EXPERIMENT)
    else:
        for path in map(Path, tables):
            refuse_leak(path, read_vectors(path), Path(calls))
        responses = None if response_features is None else FeatureTable.load(response_features)
        names = GeneNames.from_hgnc(aliases) if aliases else GeneNames()
        trial = OnCalls.of(Path(calls), fused, model or OF_CALLS, responses, names)
    found = _measured(trial, fused)
    if output is not None:
        with written_beside(output, overwrite) as part:
            found.rows.to_csv(part, index=False)
    return found


def _measured(trial: Trial, fused: FeatureTable) -> Ablation:
    targets = sorted({gene for p in trial.train.perturbations for gene in p.split("+")})
    fused, parts = fused.subset(targets), fused.provenance["parts"]
    every = list(range(len(parts)))
    whole, none = trial.score(fused), trial.score(None)
    rows = []
    for i in track(every, "leaving sources out"):
        without = trial.score(of_parts(fused, [k for k in every if k != i])) if len(every) > 1 else none
        dealt = [trial.score(shuffled(fused, i, seed)) for seed in range(SHUFFLES)]
        alone = trial.score(of_parts(fused, [i])) if len(every) > 1 else whole
        lacking = len(set(parts[i].get("lacks", [])) & set(targets))
        row = {"source": part_name(parts, i), "genes": len(targets) - lacking, "coverage": 1 - lacking / len(targets)}
        row |= {"columns": parts[i]["columns"][1] - parts[i]["columns"][0], "without": trial.mean(without)}
        row |= {"shuffled": float(np.mean([trial.mean(s) for s in dealt])), "alone": trial.mean(alone)}
        for name, others in (("gain", [without]), ("gain_of_genes", dealt)):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = trial.difference(whole, others)
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("gain", ascending=False, ignore_index=True)
    n = len(set(trial.train.perturbations))
    return Ablation(table, trial.mean(whole), trial.mean(none), trial.metric, n)


def ablation_table(ablation: Ablation) -> Table:
    """The rows as a rich table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        title=f"{ablation.metric} on {ablation.targets:,} held-out training targets: {ablation.whole:.3f} with all sources, "
        f"{ablation.none:.3f} with none",
        caption="gain: of all sources over all but this one; of its genes: over all with its genes shuffled [95 % paired "
        "bootstrap over targets]",
    )
    table.add_column("source", overflow="fold", min_width=12)
    for heading in ("coverage", "without", "gain", "shuffled", "gain of its genes", "alone"):
        table.add_column(heading, justify="right", no_wrap="gain" not in heading)
    for row in ablation.rows.to_dict("records"):
        gains = [
            f"{row[name]:+.3f} [{row[f'{name}_low']:+.3f}, {row[f'{name}_high']:+.3f}]"
            for name in ("gain", "gain_of_genes")
        ]
        table.add_row(
            row["source"],
            f"{row['coverage']:.0%}",
            f"{row['without']:.3f}",
            gains[0],
            f"{row['shuffled']:.3f}",
            gains[1],
            f"{row['alone']:.3f}",
        )
    return table
