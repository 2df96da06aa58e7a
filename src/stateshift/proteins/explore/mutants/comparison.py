"""Mutants beside their wild type: what changed, and how far their embeddings moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.proteins.explore.mutants.calls import call_mutant
from stateshift.proteins.explore.stored.embeddings import Embeddings

THIRDS = ("start", "middle", "end")


@dataclass(frozen=True)
class Mutations:
    """Mutants beside a wild type.

    Parameters
    ----------
    wt
        Its id.
    table
        One row a mutant: ``id``, ``kind``, ``change`` (HGVS p.), ``position`` (from 1), ``third``, ``cosine`` and
        ``distance`` (L2) of the protein vectors to the wild type's, ``cosine_at_site`` of the residue rows at the
        position. Position, third and site are those of single substitutions alone.
    thirds
        Single substitutions by third of the sequence: number, means and the strongest.
    profiles
        Id of a mutant as long as the wild type → change of each residue row, 1 − cosine, (L,).
    notes
        A sentence each.
    """

    wt: str
    table: pd.DataFrame
    thirds: pd.DataFrame
    profiles: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def compare_mutants(sequences: Mapping[str, str], wt: str, held: Embeddings) -> Mutations:
    """Call every sequence against the wild type, and compare their embeddings.

    Parameters
    ----------
    sequences
        Id → sequence, the wild type among them.
    wt
        Its id.
    held
        Embeddings of all of them. Where they hold no protein level, a protein's vector is the mean over its residues.

    Raises
    ------
    StateshiftError
        The wild type is missing, or no mutant is there.
    InputProblems
        Sequences without an embedding, or with rows that don't match their length.
    """
    require_mutants(sequences, wt)
    problems = mismatches(sequences, held)
    if problems:
        raise InputProblems(held.where, problems)
    mutants = [id for id in sequences if id != wt]
    calls = {id: call_mutant(sequences[wt], sequences[id]) for id in mutants}
    vectors = {id: _vector(held, id, len(sequences[id])) for id in sequences}
    residues = {id: _rows(held, id, len(sequences[id])) for id in sequences} if held.residues else {}
    profiles = {
        id: 1 - cosines(residues[id], residues[wt])
        for id in mutants
        if residues and len(sequences[id]) == len(sequences[wt])
    }
    table = pd.DataFrame({"id": mutants, "kind": [calls[id].kind for id in mutants]})
    table["change"] = [calls[id].hgvs for id in mutants]
    table["position"] = pd.array([calls[id].position for id in mutants], dtype="Int64")
    table["third"] = [third_of(calls[id].position, len(sequences[wt])) for id in mutants]
    together = np.stack([vectors[id] for id in mutants])
    table["cosine"] = cosines(together, vectors[wt])
    table["distance"] = np.linalg.norm(together - vectors[wt], axis=1)
    at_site = [1 - profiles[id][p - 1] if (p := calls[id].position) and profiles else np.nan for id in mutants]
    table["cosine_at_site"] = at_site
    return Mutations(wt, table, by_thirds(table), profiles, _notes(held, table))


def require_mutants(sequences: Mapping[str, str], wt: str) -> None:
    """Raise where the wild type is missing, or is all there is."""
    if wt not in sequences:
        raise StateshiftError(f"No sequence is called `{wt}`{suggestion(wt, sequences)}: name the wild type with --wt.")
    if len(sequences) == 1:
        raise StateshiftError(f"`{wt}` is alone: its mutants belong into the same FASTA, or --scan makes them all.")


def third_of(position: int | None, length: int) -> str:
    """``start``, ``middle`` or ``end``; empty without a position.

    Examples
    --------
    >>> [third_of(position, 9) for position in (1, 3, 4, 6, 7, 9)]
    ['start', 'start', 'middle', 'middle', 'end', 'end']
    """
    return THIRDS[3 * (position - 1) // length] if position else ""


def by_thirds(table: pd.DataFrame) -> pd.DataFrame:
    """Single substitutions of each third: number, mean cosines and distance, the change furthest from the wild type."""
    rows = []
    for third in THIRDS:
        here = table[(table["third"] == third) & (table["kind"] == "substitution")]
        row = {"third": third, "mutants": len(here)}
        row |= {f"mean_{name}": here[name].mean() for name in ("cosine", "distance", "cosine_at_site")}
        row["furthest"] = here.loc[here["distance"].idxmax(), "change"] if len(here) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def mismatches(sequences: Mapping[str, str], held: Embeddings) -> list[str]:
    """Sequences without an embedding at a level that the others have, or with one of something else."""
    there = set(held.ids)
    foreign = [id for id in sequences if id not in there]
    problems = [f"no embedding of {some(foreign)}{suggestion(foreign[0], held.ids)}."] if foreign else []
    for level, arrays in (("residue", held.residues), ("protein", held.proteins)):
        absent = [id for id in sequences if id in there and id not in arrays] if arrays else []
        if absent:
            problems.append(f"no {level} embedding of {some(absent)}.")
    others = held.of_others(sequences)
    if others:
        problems.append(f"{some(others)}: embedded as other sequences than the FASTA has by these names.")
    wrong = [
        f"{id} ({held.residues[id].shape[0]} rows, L = {len(sequence)})"
        for id, sequence in sequences.items()
        if id in held.residues and id not in others and held.residues[id].shape[0] - len(sequence) not in (0, 2)
    ]
    if wrong:
        problems.append(f"residue rows that are neither L nor L + 2: {some(wrong)}. Were they made of other sequences?")
    return problems


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of each row with the row beside it, or with the only other one; NaN for a row of zeros."""
    rows, others = np.atleast_2d(rows), np.atleast_2d(others)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rows * others).sum(-1) / (np.linalg.norm(rows, axis=-1) * np.linalg.norm(others, axis=-1))


def _rows(held: Embeddings, id: str, length: int) -> np.ndarray:
    """Residue rows (L, D) in double precision, BOS and EOS taken off where they were kept."""
    rows = held.residue(id).astype(np.float64)
    return rows[1:-1] if len(rows) == length + 2 else rows


def _vector(held: Embeddings, id: str, length: int) -> np.ndarray:
    return held.protein(id).astype(np.float64) if held.proteins else _rows(held, id, length).mean(axis=0)


def _notes(held: Embeddings, table: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    if not held.proteins:
        notes.append("There is no protein level: a protein's vector is the mean over its residues.")
    if not held.residues:
        notes.append("There is no residue level: nothing is said of the mutated site and of change along the sequence.")
    for kind in ("several substitutions", "indel", "unrelated", "identical"):
        ids = table.loc[table["kind"] == kind, "id"]
        if len(ids):
            told = "is left out of" if len(ids) == 1 else "are left out of"
            notes.append(f"{kind}: {some(ids)} {told} the thirds.")
    return tuple(notes)
