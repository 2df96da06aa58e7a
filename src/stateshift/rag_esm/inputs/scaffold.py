"""Motifs at random places of masked sequences, the proteins they come from as contexts."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.proteins.fasta import read_sequences
from stateshift.rag_esm.inputs.pairs import Pair, write_pairs


def scaffold_inputs(
    fasta: str | Path,
    motifs: str | Path,
    output: str | Path,
    *,
    per_motif: int = 1,
    shortest: int = 50,
    longest: int = 200,
    seed: int = 0,
) -> list[Pair]:
    """Write inputs that hold a protein's motif and masks around it, with the protein as context.

    Parameters
    ----------
    fasta
        The proteins.
    motifs
        A csv or tsv with the columns ``id``, ``start``, ``end``: 1-based, the end included. Several rows of one id
        are segments of one motif: they stay in their order, as far apart as it falls.
    output
        A folder for ``inputs.fasta``, ``contexts.fasta`` and ``clusters.txt`` (the protein of each).
    per_motif
        Inputs of each motif.
    shortest, longest
        Between them the length of an input is drawn; a longer motif makes it as long as itself at least.
    seed
        Draws lengths and places.

    Raises
    ------
    InputProblems
        Rows that name no protein or no segment of it, or segments that overlap.
    """
    if per_motif < 1 or not 1 <= shortest <= longest:
        raise StateshiftError("--per-motif must be 1 or more, and --shortest lie between 1 and --longest.")
    sequences = read_sequences(fasta)
    rng = np.random.default_rng(seed)
    pairs = []
    for name, segments in _segments(Path(motifs), sequences).items():
        parts = [sequences[name][start - 1 : end] for start, end in segments]
        for number in range(per_motif):
            held = sum(map(len, parts))
            length = int(rng.integers(max(shortest, held), max(longest, held) + 1))
            title = f"{name}_{number + 1}" if per_motif > 1 else name
            pairs.append(Pair(title, placed(parts, length, rng), name, sequences[name], name))
    write_pairs(pairs, output)
    return pairs


def placed(parts: Sequence[str], length: int, rng: np.random.Generator) -> str:
    """Segments in their order among masks, every way to share the masks out alike likely.

    Examples
    --------
    >>> placed(["MKV", "LA"], 5, np.random.default_rng(0))
    'MKVLA'
    """
    free = length - sum(map(len, parts))
    # stars and bars: where the segments stand among masks and segments
    stands = np.sort(rng.permutation(free + len(parts))[: len(parts)])
    gaps = np.diff([-1, *stands, free + len(parts)]) - 1
    return "".join("-" * gap + part for gap, part in zip(gaps, [*parts, ""]))


def _segments(path: Path, sequences: dict[str, str]) -> dict[str, list[tuple[int, int]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StateshiftError(f"{path} can't be read as a table of motifs: it is missing or no text.") from error
    table = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text else ",")
    columns = table.fieldnames or []
    lacking = [f"it has no column `{c}`{suggestion(c, columns)}." for c in ("id", "start", "end") if c not in columns]
    if lacking:
        raise InputProblems(str(path), lacking)
    found: dict[str, list[tuple[int, int]]] = {}
    problems = []
    for number, row in enumerate(table, start=2):
        name, start, end = (row[column] or "" for column in ("id", "start", "end"))
        if name not in sequences:
            problems.append(f"line {number}: no protein is called `{name}`{suggestion(name, sequences)}.")
        elif not (start.isdecimal() and end.isdecimal() and 1 <= int(start) <= int(end) <= len(sequences[name])):
            problems.append(f"line {number}: `{name}` has residues 1 to {len(sequences[name])}, not {start} to {end}.")
        else:
            found.setdefault(name, []).append((int(start), int(end)))
    for name, segments in found.items():
        segments.sort()
        if any(start <= before[1] for before, (start, _) in itertools.pairwise(segments)):
            problems.append(f"`{name}`: its segments overlap.")
    if problems or not found:
        raise InputProblems(str(path), problems[:20] or ["it holds no motifs."])
    return found
