"""The course of a training as a csv: a row a measurement, and those that a stopped training goes on from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stateshift.files import intact, written_beside


def read_course(path: Path, until: int) -> list[dict[str, Any]]:
    """Rows up to a ``step``; what was not written whole or lies beyond is left out."""
    if not path.is_file():
        return []
    with intact(path, "Take it away: the run goes on without the rows until now."), open(path, newline="") as handle:
        return [row for row in csv.DictReader(handle) if row["step"] and int(row["step"]) <= until]


def write_course(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows whole, in place of those there were, with a column for everything that any of them holds."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_beside(path, overwrite=True) as part, open(part, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows)
