"""A weight for each residue, for the weighted mean: read from a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError

COLUMNS = ("id", "position", "weight")


def read_weights(path: str | Path, sequences: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Weights of every residue of every sequence, from a csv or tsv with columns id, position, weight.

    Parameters
    ----------
    path
        The table. Positions are 1-based; a residue that it leaves out weighs nothing.
    sequences
        Id → sequence.

    Returns
    -------
    dict
        Id → (L,) float64.

    Raises
    ------
    InputProblems
        Rows that name no sequence, no residue or no weight, and sequences without any weight.
    """
    path = Path(path)
    weights = {name: np.zeros(len(sequence)) for name, sequence in sequences.items()}
    problems = []
    seen: dict[tuple[str, int], int] = {}
    for number, row in enumerate(_rows(path), start=2):
        name, position, weight = (row[column] or "" for column in COLUMNS)
        if name not in weights:
            problems.append(f"line {number}: no sequence is called `{name}`.")
        elif not position.isdecimal() or not 1 <= int(position) <= len(weights[name]):
            problems.append(f"line {number}: `{name}` has residues 1 to {len(weights[name])}, not `{position}`.")
        elif (first := seen.setdefault((name, int(position)), number)) != number:
            problems.append(f"line {number}: residue {position} of `{name}` has its weight in line {first} already.")
        else:
            try:
                weights[name][int(position) - 1] = float(weight)
            except ValueError:
                problems.append(f"line {number}: `{weight}` is no weight.")
    wrong = {n: w for n, w in weights.items() if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0)}
    problems += [f"`{name}`: its weights are all zero, or not all finite and positive." for name in wrong]
    if problems:
        more = [f"and {len(problems) - 20} more."] if len(problems) > 20 else []
        raise InputProblems(str(path), problems[:20] + more)
    return weights


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StateshiftError(f"{path} can't be read as a table of weights: it is missing or no text.") from error
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text else ",")
    if not set(COLUMNS) <= set(reader.fieldnames or ()):
        raise StateshiftError(f"{path} needs the columns {', '.join(COLUMNS)}; it has {reader.fieldnames}.")
    rows = list(reader)
    longer = [
        f"line {number} has more fields than the header." for number, row in enumerate(rows, start=2) if None in row
    ]
    if longer:
        raise InputProblems(str(path), longer[:10])
    return rows
