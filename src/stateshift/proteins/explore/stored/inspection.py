"""What a FASTA or a file of embeddings holds, and whether the two belong together."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import written_beside
from stateshift.progress import track
from stateshift.proteins.explore.stored.embeddings import Embeddings, read_embeddings
from stateshift.proteins.explore.stored.files import kind_of
from stateshift.proteins.fasta import examined, fasta_problems, read_sequences

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas")
RARE = "XBZUOJ"


@dataclass(frozen=True)
class Inspection:
    """What a file holds, one row a protein.

    Parameters
    ----------
    where, kind
        The file, and what it is.
    columns, rows
        The table.
    facts
        What holds of the whole file, a name and a value each.
    notes, problems
        A sentence each: worth knowing; wrong.
    """

    where: str
    kind: str
    columns: tuple[str, ...]
    rows: list[tuple]
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def write_csv(self, path: str | Path) -> None:
        """Write the table; the file must not exist yet."""
        with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([self.columns, *self.rows])


def inspect_proteins(path: str | Path, fasta: str | Path | None = None) -> Inspection:
    """Look at a FASTA, or at stored embeddings and how they match one.

    Parameters
    ----------
    path
        FASTA, or embeddings as `read_embeddings` reads them.
    fasta
        The sequences that the embeddings should be of.

    Raises
    ------
    StateshiftError
        A file can't be read, or `fasta` is given for another FASTA.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    kind = kind_of(path)
    if kind != "fasta" and not (kind == "unknown" and path.suffix.lower() in FASTA_SUFFIXES):
        with read_embeddings(path) as held:
            return _look_at_embeddings(held, fasta)
    if fasta is not None:
        raise StateshiftError(f"{path} is a FASTA itself: --fasta is compared with stored embeddings.")
    return _look_at_fasta(path)


def _look_at_fasta(path: Path) -> Inspection:
    """Every record, the invalid ones too, and everything that would be refused."""
    records = examined(path)[0]
    if not records:
        raise StateshiftError(f"{path} holds no FASTA record: a record starts with a line `>name`.")
    lengths = [len(record.sequence) for record in records]
    letters = Counter("".join(record.sequence for record in records))
    rare = {letter: letters[letter] for letter in RARE if letters[letter]}
    facts = {
        "records": f"{len(records):,}",
        "residues": f"{sum(lengths):,}",
        "length": f"{min(lengths):,} to {max(lengths):,}, median {np.median(lengths):,.0f}",
        "rare letters": ", ".join(f"{letter} {count:,}" for letter, count in rare.items()) or "none",
    }
    notes = ["J (leucine or isoleucine) is read as X: ESM2 has no such letter."] if "J" in rare else []
    ids: dict[str, list[str]] = {}
    for record in records:
        ids.setdefault(record.sequence, []).append(record.id)
    same = ["=".join(named) for named in ids.values() if len(set(named)) > 1]
    if same:
        notes.append(f"{len(same):,} sequences come under several ids: {some(same, 4)}.")
    rows = [(record.id, len(record.sequence), record.description) for record in records]
    return Inspection(str(path), "FASTA", ("id", "length", "description"), rows, facts, notes, fasta_problems(path))


def _look_at_embeddings(held: Embeddings, fasta: str | Path | None) -> Inspection:
    arrays = {"residue": held.residues, "protein": held.proteins}
    shapes = {level: {id: tuple(a.shape) for id, a in arrays[level].items()} for level in held.levels}
    widths = Counter(shape[-1] for by_id in shapes.values() for shape in by_id.values())
    dtypes = {level: Counter(str(a.dtype) for a in arrays[level].values()) for level in held.levels}
    facts = {"proteins": f"{len(held.ids):,}", "width": ", ".join(map(str, sorted(widths)))}
    if held.keys:
        facts["keys"] = ", ".join(f"{key} ({count:,})" for key, count in held.keys.items())
    for level in held.levels:
        facts[f"{level} level"] = f"{len(shapes[level]):,} ids, {', '.join(dtypes[level])}"
    notes, problems = list(held.notes), []
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        odd = [f"{id} ({s[-1]})" for by_id in shapes.values() for id, s in by_id.items() if s[-1] != usual]
        problems.append(f"widths differ: most are {usual}, not those of {some(odd)}.")
    for level in held.levels:
        absent = [id for id in held.ids if id not in arrays[level]]
        if absent:
            problems.append(f"{len(absent):,} ids lack the {level} level: {some(absent)}.")
    broken = [id for id in track(held.ids, "looking at values") if not _is_finite(held, id)]
    if broken:
        problems.append(f"{len(broken):,} ids hold values that are not finite: {some(broken)}.")
    columns, sequences = ("id", "residue", "protein"), {}
    if fasta is not None:
        columns, sequences = (*columns, "length", "match"), read_sequences(fasta)
        found = match_fasta(held, sequences, str(fasta))
        notes, problems = notes + found[0], problems + found[1]
    others = set(held.of_others(sequences))
    rows = []
    for id in held.ids:
        row = (id, *(_written(shapes.get(level, {}).get(id)) for level in ("residue", "protein")))
        if fasta is not None:
            match = "other sequence" if id in others else _match(shapes, id, sequences)
            row = (*row, len(sequences[id]) if id in sequences else "", match)
        rows.append(row)
    return Inspection(held.where, held.layout, columns, rows, facts, notes, problems)


def match_fasta(held: Embeddings, sequences: dict[str, str], where: str) -> tuple[list[str], list[str]]:
    """Notes and problems of embeddings beside the sequences that they should be of.

    Parameters
    ----------
    held
        The embeddings.
    sequences
        Id → sequence.
    where
        Their file.
    """
    ids, lengths = set(held.ids), {id: len(sequence) for id, sequence in sequences.items()}
    missing = [id for id in lengths if id not in ids]
    extra = [id for id in held.ids if id not in lengths]
    if missing and len(missing) == len(lengths):
        told = suggestion(missing[0], held.ids)
        return [], [f"no id of {where} is in the file: ids there read {some(missing, 2)}, here {some(extra, 2)}{told}."]
    problems = []
    if missing:
        problems.append(f"{len(missing):,} of {len(lengths):,} ids of {where} have no embedding: {some(missing)}.")
    if extra:
        problems.append(f"{len(extra):,} ids are not in {where}: {some(extra)}.")
    others = held.of_others(sequences)
    if others:
        problems.append(f"{len(others):,} ids were embedded as other sequences than {where} has: {some(others)}.")
    by_excess: dict[int, list[str]] = {}
    for id, rows in held.residues.items():
        if id in lengths:
            by_excess.setdefault(rows.shape[0] - lengths[id], []).append(id)
    notes = []
    if by_excess.get(0):
        notes.append(f"{len(by_excess[0]):,} ids have L rows, one a residue.")
    if by_excess.get(2):
        notes.append(
            f"{len(by_excess[2]):,} ids have L + 2 rows: BOS and EOS were kept, residue i is row i (from 0) and not row i − 1."
        )
    wrong = [
        f"{id} ({lengths[id] + n} rows, L = {lengths[id]})"
        for n, them in by_excess.items()
        if n not in (0, 2)
        for id in them
    ]
    if wrong:
        problems.append(f"{len(wrong):,} ids have neither L nor L + 2 rows: {some(wrong)}.")
    if by_excess.get(0) and by_excess.get(2):
        problems.append("some ids have L rows and others L + 2: positions can't be read alike.")
    return notes, problems


def _match(shapes: dict[str, dict[str, tuple[int, ...]]], id: str, sequences: dict[str, str]) -> str:
    if id not in sequences:
        return "extra"
    rows = shapes.get("residue", {}).get(id)
    if rows is None:
        return "id"
    return {0: "L", 2: "L + 2"}.get(rows[0] - len(sequences[id]), "other length")


def _is_finite(held: Embeddings, id: str) -> bool:
    arrays = [of(id) for of, level in ((held.residue, held.residues), (held.protein, held.proteins)) if id in level]
    return all(np.isfinite(array).all() for array in arrays)


def _written(shape: tuple[int, ...] | None) -> str:
    return " × ".join(map(str, shape)) if shape else ""
