"""A run's predictions of its own held-out targets by a season's score, beside baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.cells import EffectTable
from stateshift.cells.experiment import read_experiment
from stateshift.cells.survey import FoundFile, survey_files
from stateshift.challenge.export.from_run import STARTS_FROM
from stateshift.challenge.local.context import held_out_context
from stateshift.challenge.local.resampled import Scores, difference
from stateshift.effects import BASELINES, effect_model
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.evaluation.seasons.score_2025 import Score2025
from stateshift.evaluation.seasons.score_2026 import Score2026
from stateshift.evaluation.seasons.tables import LABELS
from stateshift.files import written_beside
from stateshift.prediction.effects import PredictedEffects, predict_effects
from stateshift.prediction.prepared import Asked
from stateshift.progress import track
from stateshift.run import RunDirectory, open_run
from stateshift.surroundings import left_alone

if TYPE_CHECKING:
    from rich.table import Table

SEASONS = ("2025", "2026")
OTHERS = (*BASELINES, "bilinear", "stack")
"""Effect models that stand beside a run."""


@dataclass
class RunScore:
    """A run beside baselines, on its held-out targets.

    Parameters
    ----------
    season, split
        By which score, and of which targets.
    models
        One row a prediction, the run's first: ``model``, ``amplitude``, ``score`` (the mean over contexts), and of
        others ``run_minus_it`` with its interval ``low``, ``high`` over resampled targets.
    members
        One row a context, prediction and member: ``value``, ``baseline``, ``score``, of 2026 ``replicate``.
    perturbations
        One row a context, prediction and target: everything that was measured.
    """

    season: str
    split: str
    models: pd.DataFrame
    members: pd.DataFrame
    perturbations: pd.DataFrame

    def save(self, folder: str | Path) -> Path:
        """Write ``models.csv``, ``members.csv`` and ``perturbations.csv`` into a new folder."""
        with written_beside(Path(folder)) as part:
            part.mkdir()
            for name in ("models", "members", "perturbations"):
                getattr(self, name).to_csv(part / f"{name}.csv", index=False)
        return Path(folder)


@left_alone()
def score_run(
    run: str | Path,
    season: str,
    *,
    split: str = "test",
    models: Sequence[str] = OTHERS,
    amplitudes: Sequence[float] = (1.0,),
    match_significant: bool = True,
    seed: int = 0,
    threads: int = 1,
    output: str | Path | None = None,
) -> RunScore:
    """Predict a run's held-out targets, emit them as counts as `export_run` does, and score them as the season would.

    The truth is the experiment's own cells of these targets, each context by itself against its own controls. Every
    prediction is emitted on the same control cells with the same seed, as many cells a target as were measured.

    Parameters
    ----------
    run
        A run directory whose experiment's files are where they were.
    season
        ``2025`` (log1p of the median total, as cell-eval's `prep` makes it) or ``2026`` (counts; both ends of its scale
        are measured, which takes seven times as long as a score).
    split
        ``val`` to choose by, ``test`` to report.
    models
        Effect models beside it, fitted on the run's training effects and emitted alike.
    amplitudes
        What the run's own effects are multiplied by, a row each.
    match_significant, seed
        As of `export_run`.
    threads
        Threads of the tests.
    output
        A new folder for the tables.

    Raises
    ------
    StateshiftError
        No such season, split or model; files that are gone or hold neither counts nor log1p of counts; `output` exists.
    """
    if season not in SEASONS:
        raise StateshiftError(f"There is no score of the season `{season}`{suggestion(season, SEASONS)}.")
    for name in models:
        effect_model(name)
    if not amplitudes or not all(np.isfinite(a) and a > 0 for a in amplitudes):
        raise StateshiftError(
            f"Amplitudes {some([f'{a:g}' for a in amplitudes]) or 'of none'}: numbers above 0 are needed."
        )
    if threads < 1:
        raise StateshiftError(f"--threads {threads}: one or more are needed.")
    if output is not None and Path(output).exists():
        raise StateshiftError(f"{output} exists already: choose another name.")
    directory = open_run(run)
    files = _files(directory, split)
    train = EffectTable.load(directory.effects_file)
    called = directory.config()["model"]["name"]
    found: dict[tuple[str, float], dict[str, Score2025 | Score2026]] = {}
    for context, file in files.items():
        predicted = _predicted(directory, file, context, split, models, seed)
        here = held_out_context(file, context, [p for _, p in predicted.pairs], predicted.genes, season, threads)
        match = here.match(train, predicted.genes) if match_significant else None
        rows = {(called, float(a)): np.float32(a) * predicted.values for a in amplitudes}
        rows |= {(name, 1.0): values for name, values in predicted.beside.items()}
        for key, values in track(list(rows.items()), f"scoring predictions of {context}"):
            effects = dict(zip((p for _, p in predicted.pairs), values))
            found.setdefault(key, {})[context] = here.score(here.emitted(effects, match, seed), threads)
    scored = _tables(season, split, found)
    if output is not None:
        scored.save(output)
    return scored


def run_score_table(score: RunScore) -> Table:
    """A row a prediction: its score, the members' scores, and what the run is ahead by."""
    from rich.table import Table

    members = score.members.groupby(["model", "amplitude", "member"], sort=False)["score"].mean()
    names = list(dict.fromkeys(score.members["member"]))
    table = Table("prediction", title=f"the challenge's score of {score.season}, {score.split} targets")
    for label in ("score", *(LABELS[name][:-2] for name in names), "run − it"):
        table.add_column(label, justify="right")
    for row in score.models.to_dict("records"):
        parts = [f"{members[row['model'], row['amplitude'], name]:.3f}" for name in names]
        ahead = "" if pd.isna(row["run_minus_it"]) else "{run_minus_it:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row)
        amplitude = "" if row["amplitude"] == 1 else f" × {row['amplitude']:g}"
        table.add_row(row["model"] + amplitude, f"{row['score']:.3f}", *parts, ahead)
    return table


def _files(run: RunDirectory, split: str) -> dict[str, FoundFile]:
    """Context with held-out targets → the file that its cells lie in."""
    splits = run.splits()
    if not splits.get(split):
        filled = [name for name, pairs in splits.items() if pairs]
        raise StateshiftError(f"{run.path} has no split `{split}` with targets: it has {some(filled)}.")
    survey = survey_files(read_experiment(run.experiment_file, beside_only=True))
    problems, found = list(survey.problems), {}
    for context, targets in splits[split].items():
        holding = [
            file
            for file in survey.files
            if ((file.obs["context"] == context) & file.obs["perturbation"].isin(list(targets))).any()
        ]
        if len(holding) == 1:
            found[context] = holding[0]
        elif not problems:
            where = f"in {some([file.name for file in holding])}" if holding else "in no file"
            problems.append(f"held-out cells of {context} lie {where}: one file is scored.")
    if problems:
        raise InputProblems(str(run.experiment_file), problems)
    return found


def _predicted(
    run: RunDirectory, file: FoundFile, context: str, split: str, models: Sequence[str], seed: int
) -> PredictedEffects:
    n_controls = int(((file.obs["context"] == context) & (file.obs["perturbation"] == file.columns.control)).sum())
    asked = Asked(
        file.path,
        split=split,
        contexts=[context],
        n_cells=min(STARTS_FROM, n_controls),
        seed=seed,
        baselines=False,
    )
    predicted = predict_effects(run.path, asked, models)
    if predicted.scale != "log1p_1e4":
        raise StateshiftError(
            f"{run.path} is on scale {predicted.scale}, of which the size factor is unknown: counts are emitted from "
            'log1p_1e4. Train with [columns] scale = "to_1e4", which brings log1p of any total to it, or score the files of '
            "`stateshift predict` with --truth."
        )
    return predicted


def _tables(season: str, split: str, found: dict[tuple[str, float], Scores]) -> RunScore:
    first, models, members, perturbations = next(iter(found.values())), [], [], []
    for (model, amplitude), scores in found.items():
        row = {"model": model, "amplitude": amplitude, "score": np.mean([s.score for s in scores.values()])}
        if scores is not first:
            row["run_minus_it"] = np.mean([s.score for s in first.values()]) - row["score"]
            row["low"], row["high"] = difference(first, scores)
        models.append({"run_minus_it": np.nan, "low": np.nan, "high": np.nan} | row)
        for context, score in scores.items():
            named = {"context": context, "model": model, "amplitude": amplitude}
            members.append(score.members.reset_index().assign(**named))
            perturbations.append(score.table.reset_index().assign(**named))
    columns = ["model", "amplitude", "score", "run_minus_it", "low", "high"]
    key = ["context", "model", "amplitude"]
    tables = (pd.concat(parts, ignore_index=True) for parts in (members, perturbations))
    ordered = (table[[*key, *(c for c in table if c not in key)]] for table in tables)
    return RunScore(season, split, pd.DataFrame(models)[columns], *ordered)
