"""A whole prediction by a season's score: every context by itself, against its own controls, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.evaluation.seasons.score_2025 import Score2025, score_2025
from stateshift.evaluation.seasons.score_2026 import Score2026, score_2026
from stateshift.evaluation.seasons.sides import Source, both_sides, opened, spelt_twice
from stateshift.files import written_beside

if TYPE_CHECKING:
    from anndata import AnnData

    Sides = AnnData | str | Path | Sequence[AnnData | str | Path]

ONE = "all cells"
"""What the only context goes by that has no name."""


@dataclass
class SeasonScore:
    """A season's score of a prediction.

    Parameters
    ----------
    season
        ``2025`` or ``2026``.
    contexts
        The score of each.
    members
        One row a context and member of the score: ``context, member, value, baseline, replicate, score``; ``replicate``
        only of 2026.
    means
        One row a context: the means over perturbations of everything that was measured.
    perturbations
        One row a context and perturbation.
    score
        The mean over contexts.
    """

    season: str
    contexts: dict[str, Score2025 | Score2026]
    members: pd.DataFrame
    means: pd.DataFrame
    perturbations: pd.DataFrame
    score: float

    def save(self, folder: str | Path) -> Path:
        """Write ``members.csv``, ``means.csv`` and ``perturbations.csv`` into a new folder."""
        with written_beside(Path(folder)) as part:
            part.mkdir()
            for name in ("members", "means", "perturbations"):
                getattr(self, name).to_csv(part / f"{name}.csv", index=False)
        return Path(folder)


def score_season(
    predicted: Sides,
    truth: Sides,
    season: str,
    *,
    perturbation: str = "target_gene",
    context: str = "context",
    control: str = "non-targeting",
    controls: Literal["truth", "own"] = "truth",
    anchors: str | Path | None = None,
    energy: bool = False,
    threads: int = 1,
    output: str | Path | None = None,
) -> SeasonScore:
    """Score a prediction by `score_2025` or `score_2026`, context by context.

    Parameters
    ----------
    predicted, truth
        Cells of one or many contexts, in one file or several: log1p for 2025, counts for 2026. Without
        ``obs[context]`` a file holds one context, which goes by the file's name among several, and among one by
        what the other side calls its only one.
    season
        ``2025`` or ``2026``.
    perturbation, context, control
        Columns of obs, and the controls' name; every context of the truth has its own.
    controls, energy
        Of `score_2025`.
    anchors
        A folder that an earlier score of 2026 of this truth was written to, whose baseline and replicate hold again:
        measuring them takes seven times as long as the score.
    threads
        Threads of the tests.
    output
        A new folder for the tables.

    Raises
    ------
    StateshiftError
        No such season; as of its score; the two sides hold other contexts; `output` exists.
    """
    if season not in ("2025", "2026"):
        raise StateshiftError(f"There is no score of the season `{season}`{suggestion(season, ('2025', '2026'))}.")
    if controls not in ("truth", "own"):
        raise StateshiftError(f"There are no controls `{controls}`{suggestion(controls, ('truth', 'own'))}.")
    if season == "2025" and anchors is not None:
        raise StateshiftError("The score of 2025 has no anchors to be given: its baseline is measured as it goes.")
    if season == "2026" and (energy or controls != "truth"):
        raise StateshiftError("Energy distances and the prediction's own controls belong to 2025, not to 2026.")
    if threads < 1:
        raise StateshiftError(f"--threads {threads}: one or more are needed.")
    if output is not None and Path(output).exists():
        raise StateshiftError(f"{output} exists already: choose another name.")
    shown, true = (
        by_context(side, (perturbation, context), who)
        for side, who in ((predicted, "the prediction"), (truth, "the truth"))
    )
    pairs = _paired(shown, true, context)
    _refuse_unequal(pairs, perturbation, control)
    known = None if anchors is None else _read_anchors(Path(anchors), list(pairs))
    named = {"perturbation": perturbation, "control": control, "threads": threads}
    found: dict[str, Score2025 | Score2026] = {}
    for name, (of_prediction, of_truth) in pairs.items():
        try:
            if season == "2025":
                found[name] = score_2025(of_prediction, of_truth, controls=controls, energy=energy, **named)
            else:
                ends = None if known is None else known[name]
                found[name] = score_2026(of_prediction, of_truth, anchors=ends, **named)
        except StateshiftError as error:
            raise error if name == ONE else StateshiftError(f"{name}: {error}") from error
    score = _tables(season, found)
    if anchors is not None:
        _refuse_other_truth(Path(anchors), score.perturbations)
    if output is not None:
        score.save(output)
    return score


def by_context(sides: Sides, columns: tuple[str, str], who: str) -> dict[str, Source]:
    """The cells of each context of one file or several.

    Parameters
    ----------
    columns
        Of the perturbation and of the context.
    who
        Whose they are, in errors.
    """
    several = list(sides) if isinstance(sides, list | tuple) else [sides]
    found: dict[str, Source] = {}
    for side in several:
        source = opened(side, *columns)
        if columns[1] not in source.columns:
            if len(several) > 1 and not isinstance(side, str | Path):
                raise StateshiftError(f"{who}: of several AnnData each needs `{columns[1]}` in obs.")
            parts = {Path(side).stem if len(several) > 1 else ONE: source}
        else:
            labels = source.labels(columns[1])
            problems = [f"one context in several ways: {ways}" for ways in spelt_twice(labels)]
            if labels.isna().any():
                problems.append(f"{int(labels.isna().sum()):,} cells have no `{columns[1]}`")
            if problems:
                raise InputProblems(who, problems)
            parts = {name: source.where(columns[1], name) for name in sorted(labels.astype(str).unique())}
        if twice := set(parts) & set(found):
            raise StateshiftError(f"{who}: {some(sorted(twice))} is in two files: a context is scored from one.")
        found |= parts
    return found


def _paired(shown: dict[str, Source], true: dict[str, Source], context: str) -> dict[str, tuple[Source, Source]]:
    if len(shown) == len(true) == 1 and ONE in (*shown, *true):
        name = next((name for name in (*true, *shown) if name != ONE), ONE)
        return {name: (*shown.values(), *true.values())}
    for who, side, other in (("the prediction", shown, true), ("the truth", true, shown)):
        if ONE in side:
            raise StateshiftError(
                f"{who}: obs has no column `{context}` to tell the contexts of the other side by: {some(other)}."
            )
    absent, more = sorted(set(true) - set(shown)), sorted(set(shown) - set(true))
    problems = [f"contexts of the truth are not predicted: {some(absent)}"] if absent else []
    problems += [f"predicted contexts are not in the truth: {some(more)}"] if more else []
    if problems:
        raise InputProblems("the two sides of the score", problems)
    return {name: (shown[name], true[name]) for name in true}


def _refuse_unequal(pairs: dict[str, tuple[Source, Source]], perturbation: str, control: str) -> None:
    """The problems of all contexts at once, before hours may go into the first."""
    found: dict[str, list[str]] = {}
    for name, sides in pairs.items():
        try:
            both_sides(*sides, perturbation, control)
        except InputProblems as error:
            for problem in error.problems:
                found.setdefault(f"{error.where}: {problem}", []).append(name)
    if found:
        named = {said: "" if names in ([ONE], list(pairs)) else f"{some(names)}: " for said, names in found.items()}
        raise InputProblems("cells to score", [f"{named[said]}{said}" for said in found])


def _read_anchors(folder: Path, contexts: list[str]) -> dict[str, pd.DataFrame]:
    path = folder / "members.csv"
    if not path.is_file():
        raise StateshiftError(f"{folder} is no score of 2026: it has no members.csv.")
    table = pd.read_csv(path, dtype={"context": str, "member": str}, keep_default_na=False, na_values=[""])
    if absent := [c for c in ("context", "member", "baseline", "replicate") if c not in table]:
        raise StateshiftError(f"{path} is no score of 2026: it has no column {some(absent)}.")
    if unknown := sorted(set(contexts) - set(table["context"])):
        raise StateshiftError(f"{path} holds no anchors of {some(unknown)}: it has {some(table['context'].unique())}.")
    return {name: rows.set_index("member")[["baseline", "replicate"]] for name, rows in table.groupby("context")}


def _refuse_other_truth(folder: Path, scored: pd.DataFrame) -> None:
    """Anchors hold for the truth that they were measured on, which shows in the sizes of its effects."""
    path, pair = folder / "perturbations.csv", ["context", "perturbation"]
    if not path.is_file():
        raise StateshiftError(f"{folder} is no whole score of 2026: it has no perturbations.csv.")
    earlier = pd.read_csv(path, dtype=dict.fromkeys(pair, str), keep_default_na=False, na_values=[""])
    if absent := [c for c in (*pair, "effect") if c not in earlier]:
        raise StateshiftError(f"{path} is no score of 2026: it has no column {some(absent)}.")
    earlier = earlier[earlier["context"].isin(scored["context"])].set_index(pair)["effect"].sort_index()
    now = scored.set_index(pair)["effect"].sort_index()
    if not earlier.index.equals(now.index) or not np.allclose(earlier, now, rtol=1e-6, atol=1e-12):
        raise StateshiftError(
            f"{folder} holds the anchors of another truth: its perturbations, or their measured effects, are not those scored "
            "here. Leave --anchors out, and they are measured."
        )


def _tables(season: str, found: dict[str, Score2025 | Score2026]) -> SeasonScore:
    scores = found.values()
    return SeasonScore(
        season,
        found,
        *(
            pd.concat(tables, keys=list(found), names=["context"]).reset_index("context").reset_index(drop=True)
            for tables in (
                [score.members.reset_index() for score in scores],
                [pd.DataFrame([score.means]) for score in scores],
                [score.table.reset_index() for score in scores],
            )
        ),
        score=float(np.mean([score.score for score in scores])),
    )
