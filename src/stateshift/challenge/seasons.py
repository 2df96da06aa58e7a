"""A season's rules, read from ``competition/<season>/rules.toml``: a new season is a new file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, suggestion


@dataclass(frozen=True)
class Season:
    """What a submission of one season has to hold.

    Parameters
    ----------
    name, title
        Short and long.
    perturbation, control
        The file's obs column, and the control's name in it.
    most_cells, genes
        The limit of cells (controls included), and the exact number of genes.
    below
        Log1p values lie in [0, below).
    matrix, watermark_name, watermark, zstd_level
        The names of the two files in the tar, the mark's text, and the compression of the first.
    """

    name: str
    title: str
    perturbation: str
    control: str
    most_cells: int
    genes: int
    below: float
    matrix: str
    watermark_name: str
    watermark: str
    zstd_level: int


FIELDS = {
    "name": ("season", None, str),
    "title": ("title", None, str),
    "perturbation": ("perturbation", "cells", str),
    "control": ("control", "cells", str),
    "most_cells": ("most", "cells", int),
    "genes": ("genes", "cells", int),
    "below": ("below", "cells", float),
    "matrix": ("matrix", "file", str),
    "watermark_name": ("watermark_name", "file", str),
    "watermark": ("watermark", "file", str),
    "zstd_level": ("zstd_level", "file", int),
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
    >>> read_season("2025").genes
    18080
    """
    path = Path(season)
    if path.suffix != ".toml":
        path = competition_folder() / str(season) / "rules.toml"
        if str(season) not in known_seasons():
            raise StateshiftError(f"There are no rules for the season `{season}`{suggestion(season, known_seasons())}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StateshiftError(f"{path} can't be read as a season's rules: {error}.") from error
    return _season(content, path)


def _season(content: dict, path: Path) -> Season:
    problems, values = [], {}
    expected: dict[str | None, set[str]] = {None: {"cells", "file"}}
    for name, (key, table, kind) in FIELDS.items():
        expected.setdefault(table, set()).add(key)
        where = content if table is None else content.get(table, {})
        value = where.get(key)
        allowed = (int, float) if kind is float else kind
        if value is None:
            problems.append(f"{f'[{table}] ' if table else ''}{key} is missing.")
        elif not isinstance(value, allowed) or isinstance(value, bool):
            problems.append(f"{f'[{table}] ' if table else ''}{key} = {value!r} is no {kind.__name__}.")
        else:
            values[name] = kind(value)
    for table, keys in expected.items():
        for key in (content if table is None else content.get(table, {})).keys() - keys:
            problems.append(f"{f'[{table}] ' if table else ''}{key} is no key of the rules{suggestion(key, keys)}.")
    if problems:
        raise InputProblems(str(path), problems)
    return Season(**values)
