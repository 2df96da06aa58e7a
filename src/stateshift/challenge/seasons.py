"""A season's rules, read from ``competition/<season>/rules.toml``: a new season is a new file."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from stateshift.errors import InputProblems, StateshiftError, suggestion

SCALES = ("counts", "log1p")
SCORERS = ("2025", "2026")


@dataclass(frozen=True)
class CellRules:
    """Table ``[cells]``.

    Parameters
    ----------
    perturbation, control
        The file's obs column, and the control's name in it.
    controls
        Whether control cells are part of the file.
    genes
        The exact number of genes.
    most
        The limit of cells, which the packaging tool holds.
    advised
        The limit that the season's rules name, where that is a lower one: more is a warning.
    context
        The obs column of the context; None where a file holds one, unnamed.
    each
        The exact number of cells of every target and context, where the list of targets says no other.
    gene_header
        Whether the list of genes may begin with a header.
    """

    perturbation: str
    control: str
    controls: bool
    genes: int
    most: int
    advised: int | None = None
    context: str | None = None
    each: int | None = None
    gene_header: bool = False


@dataclass(frozen=True)
class ValueRules:
    """Table ``[values]``.

    Parameters
    ----------
    scale
        ``counts``; or ``log1p``, to which counts are brought by the median total.
    below
        Log1p values lie in [0, below).
    most_counts
        The largest total of a cell's counts.
    most_stored
        The most values that are not 0.
    whole
        What the packaging tool takes for whole: a fraction no larger than this.
    """

    scale: str
    below: float | None = None
    most_counts: int | None = None
    most_stored: int | None = None
    whole: float = 1e-6


@dataclass(frozen=True)
class FileRules:
    """Table ``[file]``: what the tar holds.

    Parameters
    ----------
    matrix, zstd_level
        The h5ad's name before compression, and the compression.
    meta
        Name of the JSON that goes first.
    mark, mark_text
        Name and text of the file that goes last.
    """

    matrix: str
    zstd_level: int
    meta: str | None = None
    mark: str | None = None
    mark_text: str | None = None


@dataclass(frozen=True)
class ScoreRules:
    """Table ``[score]``: whose metrics count, and the baseline's values where they were published."""

    like: str
    baseline: dict[str, float] | None = None


@dataclass(frozen=True)
class Season:
    """What a submission of one season has to hold."""

    season: str
    title: str
    cells: CellRules
    values: ValueRules
    file: FileRules
    score: ScoreRules


TABLES = {"cells": CellRules, "values": ValueRules, "file": FileRules, "score": ScoreRules}
KINDS = {
    "str": (str, "is no text"),
    "bool": (bool, "is neither true nor false"),
    "int": (int, "is no whole number"),
    "float": ((int, float), "is no number"),
    "dict[str, float]": (dict, "is no table of numbers"),
}


def competition_folder() -> Path:
    """Where the seasons lie: in the installed package, or at the top of a checkout."""
    shipped = Path(str(resources.files("stateshift"))) / "competition"
    return shipped if shipped.is_dir() else Path(__file__).resolve().parents[3] / "competition"


def known_seasons(folder: Path | None = None) -> list[str]:
    """Names of the seasons that there are rules for."""
    folder = folder or competition_folder()
    return sorted(path.parent.name for path in folder.glob("*/rules.toml"))


def read_season(season: str | Path) -> Season:
    """Rules of a season by name, or of a rules file by path.

    Raises
    ------
    StateshiftError
        No such season; the seasons there are are named. Or the file is unreadable, or its keys are wrong.

    Examples
    --------
    >>> read_season("2025").cells.genes
    18080
    """
    path = Path(season)
    if path.suffix != ".toml":
        path = competition_folder() / str(season) / "rules.toml"
        if str(season) not in known_seasons():
            raise StateshiftError(f"There are no rules for the season `{season}`{suggestion(season, known_seasons())}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StateshiftError(f"{path} can't be read as a season's rules: {error}.") from error
    problems: list[str] = []
    for key in content.keys() - {"season", "title"} - TABLES.keys():
        problems.append(f"{key} is no key of the rules{suggestion(key, ['season', 'title', *TABLES])}.")
    top = {key: content.get(key) for key in ("season", "title")}
    problems += [f"{key} is missing." for key, value in top.items() if value is None]
    problems += [f"{key} = {value!r} is no text." for key, value in top.items() if not isinstance(value, str | None)]
    tables = {name: _table(name, kind, content.get(name), problems) for name, kind in TABLES.items()}
    if not problems:
        problems = _disagreements(**tables)
    if problems:
        raise InputProblems(str(path), problems)
    return Season(**top, **tables)


def _table(name: str, kind: type, given: Any, problems: list[str]) -> Any:
    """One table of the rules; what is wrong with it goes to `problems`."""
    if not isinstance(given, dict):
        problems.append(f"[{name}] is missing.")
        return None
    known, values, before = {field.name for field in fields(kind)}, {}, len(problems)
    for field in fields(kind):
        value, wanted = given.get(field.name), str(field.type).removesuffix(" | None")
        if value is None:
            if field.default is MISSING:
                problems.append(f"[{name}] {field.name} is missing.")
        elif not _is_of(value, wanted):
            problems.append(f"[{name}] {field.name} = {value!r} {KINDS[wanted][1]}.")
        else:
            values[field.name] = value
    for key in given.keys() - known:
        problems.append(f"[{name}] {key} is no key of the rules{suggestion(key, known)}.")
    return kind(**values) if len(problems) == before else None


def _is_of(value: Any, wanted: str) -> bool:
    """Whether a value of a TOML is of a field's type; true and false are no numbers."""
    if isinstance(value, dict):
        return wanted.startswith("dict") and all(_is_of(v, "float") for v in value.values())
    return isinstance(value, KINDS[wanted][0]) and (wanted == "bool" or not isinstance(value, bool))


def _disagreements(cells: CellRules, values: ValueRules, file: FileRules, score: ScoreRules) -> list[str]:
    """What each table says right and the rules together don't."""
    problems = []
    if values.scale not in SCALES:
        problems.append(f"[values] scale = `{values.scale}`{suggestion(values.scale, SCALES)}.")
    if values.scale == "log1p" and values.below is None:
        problems.append("[values] below is missing: log1p values need their limit.")
    if score.like not in SCORERS:
        problems.append(f"[score] like = `{score.like}`{suggestion(score.like, SCORERS)}.")
    if (file.mark is None) != (file.mark_text is None):
        problems.append("[file] mark and mark_text go together.")
    numbers = {f"[cells] {name}": getattr(cells, name) for name in ("genes", "most", "advised", "each")}
    problems += [f"{name} = {n} has to be at least 1." for name, n in numbers.items() if n is not None and n < 1]
    if not 1 <= file.zstd_level <= 22:
        problems.append(f"[file] zstd_level = {file.zstd_level} has to be 1 to 22.")
    names = [name for name in (file.meta, file.matrix, file.mark) if name]
    problems += [f"[file] `{name}` is no plain file name." for name in names if Path(name).name != name]
    return problems
