"""What is to be embedded: a folder, a structure, a FASTA or a table, as one job a line of work."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.proteins import read_fasta
from stateshift.structure.parsing.files import SUFFIXES, is_url, structure_stem

FASTA = (".fasta", ".fa", ".faa", ".fasta.gz", ".fa.gz", ".faa.gz")
HEADER = ("name", "path", "part", "output")
FORBIDDEN = set('/\\\0:*?"<>|\n\t')


@dataclass(frozen=True)
class Job:
    """One structure, one part of it, or one sequence.

    Parameters
    ----------
    name
        The structure's or sequence's name, by which stored residue tensors are found.
    source
        A file or an address; empty for a sequence.
    part
        A chain or an assembly; None: all.
    output
        The result's name, or with all parts its beginning.
    sequence
        Of a FASTA record.
    """

    name: str
    source: str = ""
    part: str | None = None
    output: str | None = None
    sequence: str | None = None

    @property
    def key(self) -> str:
        """What the job is known by; each once."""
        return self.output or (f"{self.name}.{self.part}" if self.part else self.name)

    def result(self, part: str) -> str:
        """The name of the result of one part."""
        return self.key if self.part else f"{self.key}.{part}"


def read_jobs(source: str | Path) -> list[Job]:
    """The jobs that a source names.

    Parameters
    ----------
    source
        A folder of structures; one structure, by file or address; a FASTA; or a table without header of
        name, path or address, chain or assembly (empty: all), output name (empty: NAME or NAME.PART). Paths
        in a table are looked for beside it first, then from where the command runs.

    Raises
    ------
    StateshiftError
        The source is missing, holds nothing to embed, or is none of these.
    InputProblems
        Lines of a table that can't be used, files that don't exist, results that would have one name.
    """
    if is_url(source):
        return [Job(structure_stem(source), str(source))]
    path = Path(source)
    lower = path.name.lower()
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.name.lower().endswith(SUFFIXES))
        if not files:
            raise StateshiftError(f"{path} holds no structures: names end in {', '.join(SUFFIXES[:5])}, plain or .gz.")
        jobs = [Job(structure_stem(f), str(f)) for f in files]
    elif not path.is_file():
        raise StateshiftError(f"{path}: there is no such folder or file to embed.")
    elif lower.endswith(SUFFIXES):
        jobs = [Job(structure_stem(path), str(path))]
    elif lower.endswith(FASTA):
        jobs = [Job(protein.id, sequence=protein.sequence) for protein in read_fasta(path, unique=True)]
    elif lower.endswith(".csv"):
        jobs = _of_table(path)
    else:
        raise StateshiftError(
            f"{path} is no source of structures: a folder, a structure file, a FASTA ({', '.join(FASTA[:3])}) or a .csv "
            "of name, path, chain or assembly, output name."
        )
    if problems := _clashes(jobs):
        raise InputProblems(str(path), problems)
    return jobs


def _of_table(path: Path) -> list[Job]:
    try:
        rows = [
            row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if any(map(str.strip, row))
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StateshiftError(f"{path} can't be read as a table: it is no text.") from error
    jobs, problems = [], []
    for number, row in enumerate(rows, start=1):
        fields = [field.strip() for field in row]
        if number == 1 and [field.casefold() for field in fields[:2]] == list(HEADER[:2]):
            continue
        if len(fields) != len(HEADER):
            problems.append(
                f"line {number} has {len(fields)} columns, not 4: name, path, chain or assembly, output name."
            )
            continue
        name, place, part, output = fields
        found = place if is_url(place) else _found(place, path.parent)
        bad = sorted(set(name + part + output) & FORBIDDEN)
        if not name or not place:
            problems.append(f"line {number} has no {'path' if name else 'name'}.")
        elif bad:
            problems.append(f"line {number}: names become file names and may not hold {' '.join(map(repr, bad))}.")
        elif found is None:
            problems.append(f"line {number}: there is no file {place}.")
        else:
            jobs.append(Job(name, found, part or None, output or None))
    if not jobs and not problems:
        problems.append("it is empty.")
    problems += _clashes(jobs) if problems else []
    if problems:
        more = [f"and {len(problems) - 30} more."] if len(problems) > 30 else []
        raise InputProblems(str(path), problems[:30] + more)
    return jobs


def _found(place: str, beside: Path) -> str | None:
    candidates = (beside / place, Path(place))
    return next((str(c) for c in candidates if c.is_file()), None)


def whole_structures(jobs: Sequence[Job]) -> list[Job]:
    """The structures that jobs take parts of, each once and with all its parts; sequences as they are.

    Raises
    ------
    StateshiftError
        One name stands for several structures.
    """
    whole = list(dict.fromkeys(j if j.sequence is not None else Job(j.name, j.source) for j in jobs))
    twice = [name for name, count in Counter(job.name for job in whole).items() if count > 1]
    if twice:
        raise StateshiftError(f"One name stands for several structures ({some(twice)}): their tensors need names too.")
    return whole


def _clashes(jobs: Sequence[Job]) -> list[str]:
    """Results that would have one name, or one that no file can have."""
    twice = [key for key, count in Counter(job.key for job in jobs).items() if count > 1]
    problems = [f"{len(twice)} results would have one name: {some(twice)}; give them output names."] if twice else []
    all_parts = {job.key for job in jobs if job.part is None and job.sequence is None}
    within = [job.key for job in jobs if job.part is not None and job.key.rpartition(".")[0] in all_parts]
    if within:
        problems.append(f"all parts of a structure are asked for, and beside them {some(within)}: give output names.")
    bad = [job.key for job in jobs if set(job.key.replace("|", "")) & FORBIDDEN]
    return problems + ([f"names that can't be file names: {some(bad)}."] if bad else [])
