"""What makes a sequence differ from the wild type, in HGVS p. notation (den Dunnen et al. 2016, Hum. Mutat. 37, 564)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from stateshift.proteins.explore.mutants.alignment import align

LETTERS = "ARNDCQEGHILKMFPSTWYVUOBZX"
NAMES = "AlaArgAsnAspCysGlnGluGlyHisIleLeuLysMetPheProSerThrTrpTyrValSecPylAsxGlxXaa"
THREE_LETTERS = {letter: NAMES[3 * i : 3 * i + 3] for i, letter in enumerate(LETTERS)}
LEAST_IDENTITY = 0.5
"""Share of aligned columns that must agree for a sequence to be called a mutant at all, unless it only ends early."""


@dataclass(frozen=True)
class Change:
    """Residues of the wild type and what stands in their place.

    Parameters
    ----------
    start
        The first residue changed, counted from 1; where nothing is taken away, the residue behind which something
        is put in (0: before the first).
    wt, mutant
        What stood there and what stands there, one of them possibly empty.
    """

    start: int
    wt: str
    mutant: str

    @property
    def is_substitution(self) -> bool:
        """Whether one residue stands for another."""
        return len(self.wt) == len(self.mutant) == 1


@dataclass(frozen=True)
class Call:
    """How a sequence differs from the wild type.

    Parameters
    ----------
    kind
        ``identical``, ``substitution``, ``several substitutions``, ``indel`` (alone or beside substitutions), or
        ``unrelated``.
    hgvs
        As ``p.Ala12Val``; empty for unrelated sequences.
    changes
        In the order of the sequence, each substituted residue its own.
    """

    kind: str
    hgvs: str
    changes: tuple[Change, ...] = ()

    @property
    def position(self) -> int | None:
        """The residue that a single substitution changes, counted from 1; None of all other kinds."""
        return self.changes[0].start if self.kind == "substitution" else None


def call_mutant(wt: str, mutant: str) -> Call:
    """Call a mutant against the wild type.

    Sequences of one length are compared residue by residue where that leaves them alike; all others are aligned, and a
    gap that could lie at several places lies at the last. Neighbouring substitutions read as one deletion-insertion, as
    HGVS has it, and count as several substitutions.

    Examples
    --------
    >>> call_mutant("MKVLAAAG", "MKVLAVAG").hgvs
    'p.Ala6Val'
    >>> call_mutant("MKVLAAAG", "MKVLAAG")
    Call(kind='indel', hgvs='p.Ala7del', changes=(Change(start=7, wt='A', mutant=''),))
    >>> call_mutant("MKVLAAAG", "MRVLAAAE").hgvs
    'p.[Lys2Arg;Gly8Glu]'
    """
    if wt == mutant:
        return Call("identical", "p.=")
    ends_early = wt.startswith(mutant)
    if ends_early:
        aligned = wt, mutant.ljust(len(wt), "-")
    else:
        aligned = (wt, mutant) if _alike(wt, mutant) else align(wt, mutant)
    if aligned is None or (not ends_early and _identity(*aligned) < LEAST_IDENTITY):
        return Call("unrelated", "")
    runs = _runs(*aligned)
    told = [_written(run, wt) for run in runs]
    hgvs = f"p.{told[0]}" if len(told) == 1 else f"p.[{';'.join(told)}]"
    changes = tuple(change for run in runs for change in _single(run))
    if not all(change.is_substitution for change in changes):
        return Call("indel", hgvs, changes)
    return Call("substitution" if len(changes) == 1 else "several substitutions", hgvs, changes)


def _identity(wt: str, mutant: str) -> float:
    """Share of aligned columns that agree."""
    return sum(x == y for x, y in zip(wt, mutant)) / len(wt)


def _alike(wt: str, mutant: str) -> bool:
    """Whether residue by residue is the way to compare: one length, and no more than a few differences."""
    return len(wt) == len(mutant) and sum(x != y for x, y in zip(wt, mutant)) <= max(1, len(wt) // 10)


def _runs(wt: str, mutant: str) -> list[Change]:
    """Each unbroken stretch of aligned columns that differ."""
    runs, position = [], 0
    for differs, columns in groupby(zip(wt, mutant), key=lambda column: column[0] != column[1]):
        columns = list(columns)
        taken = "".join(x for x, _ in columns if x != "-")
        if differs:
            runs.append(Change(position + bool(taken), taken, "".join(y for _, y in columns if y != "-")))
        position += len(taken)
    return runs


def _single(run: Change) -> list[Change]:
    """A stretch of substitutions one by one; anything else whole."""
    if len(run.wt) != len(run.mutant):
        return [run]
    return [Change(run.start + i, x, y) for i, (x, y) in enumerate(zip(run.wt, run.mutant))]


def _written(run: Change, wt: str) -> str:
    """One change as HGVS writes it, without ``p.``."""
    start, end = run.start, run.start + len(run.wt) - 1
    here = _named(start, wt) if len(run.wt) < 2 else f"{_named(start, wt)}_{_named(end, wt)}"
    if run.is_substitution:
        return f"{here}{_three(run.mutant)}"
    if run.wt and run.mutant:
        return f"{here}delins{_three(run.mutant)}"
    if run.wt:
        return f"{_named(start, wt)}Ter" if end == len(wt) else f"{here}del"
    if start == 0:
        return f"{_named(1, wt)}ext-{len(run.mutant)}"
    first = start - len(run.mutant) + 1
    if first > 0 and wt[first - 1 : start] == run.mutant:
        return f"{here if first == start else f'{_named(first, wt)}_{here}'}dup"
    if start == len(wt):
        return f"Ter{start + 1}{_three(run.mutant[0])}ext{_three(run.mutant[1:])}Ter"
    return f"{here}_{_named(start + 1, wt)}ins{_three(run.mutant)}"


def _named(position: int, wt: str) -> str:
    return f"{THREE_LETTERS[wt[position - 1]]}{position}"


def _three(residues: str) -> str:
    return "".join(THREE_LETTERS[residue] for residue in residues)
