"""FASTA files: protein sequences in, in the letters of the ESM alphabet."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stateshift.catalogue import cache_folder, entry, is_here
from stateshift.errors import InputProblems, StateshiftError, some

logger = logging.getLogger(__name__)

RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
"""In the order of the ESM alphabet."""
LETTERS = frozenset(RESIDUES)


@dataclass(frozen=True)
class Protein:
    """One FASTA record.

    Parameters
    ----------
    id
        The header up to the first blank or tab, without ``>``.
    description
        The rest of the header.
    sequence
        L residues, upper case, each a letter of `LETTERS`.
    """

    id: str
    description: str
    sequence: str


def downloaded_proteome() -> Path | None:
    """The reviewed human proteome where ``stateshift data get uniprot_human`` has put it in the cache."""
    found = entry("uniprot_human")
    return cache_folder() / found.name / found.files[0].name if is_here(found) else None


def read_fasta(path: str | Path, *, unique: bool = False) -> list[Protein]:
    """Read all proteins of a FASTA file, plain or gzipped.

    Lower case becomes upper case, a ``*`` at the end is stripped, and J (leucine or isoleucine, a
    letter ESM2 doesn't have) becomes X with a warning that counts them; U, O, B, Z and X stay.

    Parameters
    ----------
    path
        The file; it may be gzipped under any name.
    unique
        Whether an id must stand for one sequence; a record that is there twice then counts once.

    Returns
    -------
    list of Protein
        In the order of the file.

    Raises
    ------
    StateshiftError
        The file is missing, empty, damaged or no FASTA.
    InputProblems
        Records without residues, with letters that are no amino acids, or of DNA, and where `unique` is set ids of
        several sequences: every one of them named.
    """
    path = Path(path)
    proteins, problems = examined(path)
    if unique:
        problems += _doubled(proteins)
    if problems:
        raise InputProblems(str(path), _first(problems))
    if not proteins:
        raise StateshiftError(f"{path} holds no FASTA record: a record starts with a line `>name`.")
    replaced = sum(protein.sequence.count("J") for protein in proteins)
    if replaced:
        logger.warning("%s: J (leucine or isoleucine) is read as X, %d in all.", path, replaced)
    proteins = [replace(protein, sequence=protein.sequence.replace("J", "X")) for protein in proteins]
    return list(_once(proteins, str(path)).values()) if unique else proteins


def read_sequences(path: str | Path) -> dict[str, str]:
    """Id → sequence of a FASTA file whose ids stand for one sequence each; see `read_fasta`."""
    return {protein.id: protein.sequence for protein in read_fasta(path, unique=True)}


def fasta_problems(path: str | Path) -> list[str]:
    """All that `read_fasta` refuses where ids must be unique, a sentence a record or id."""
    proteins, problems = examined(Path(path))
    return problems + _doubled(proteins)


def examined(path: Path) -> tuple[list[Protein], list[str]]:
    """Every record as it stands, in upper case and without a final ``*``, and what is wrong with some."""
    proteins, problems = [], []
    for header, raw in raw_records(path):
        id, *rest = header.split(None, 1)
        proteins.append(Protein(id, "".join(rest), raw.upper().removesuffix("*")))
        strange = sorted(set(proteins[-1].sequence) - LETTERS - {"J"})
        if not proteins[-1].sequence:
            problems.append(f"record `{id}` has no residues.")
        elif strange:
            hint = " (gaps of an alignment? remove them)" if {"-", "."} & set(strange) else ""
            hint = " (a stop inside: end the protein there, or leave it out)" if strange == ["*"] else hint
            problems.append(f"record `{id}` holds {some(map(repr, strange))}, no amino acid{hint}.")
        elif reads_like_dna(proteins[-1].sequence):
            problems.append(f"record `{id}` reads like DNA or RNA: translate it to protein first.")
    return proteins, problems


def sequences_by_id(proteins: Sequence[Protein], where: str) -> dict[str, str]:
    """Id → sequence; a record that is there twice counts once.

    Parameters
    ----------
    proteins
        FASTA records.
    where
        What they were read from, for messages.

    Raises
    ------
    InputProblems
        Ids that stand for different sequences.
    """
    doubled = _doubled(proteins)
    if doubled:
        raise InputProblems(where, _first(doubled))
    return {id: protein.sequence for id, protein in _once(proteins, where).items()}


def _doubled(proteins: Sequence[Protein]) -> list[str]:
    """A problem for each id of several sequences."""
    found: dict[str, set[str]] = {}
    for protein in proteins:
        found.setdefault(protein.id, set()).add(protein.sequence)
    return [
        f"`{id}` names {'two' if len(them) == 2 else len(them)} different sequences: give each an id of its own."
        for id, them in found.items()
        if len(them) > 1
    ]


def _once(proteins: Sequence[Protein], where: str) -> dict[str, Protein]:
    found: dict[str, Protein] = {}
    for protein in proteins:
        found.setdefault(protein.id, protein)
    if len(found) < len(proteins):
        repeated = len(proteins) - len(found)
        logger.warning("%s: %d records are there twice, sequence and all, and count once.", where, repeated)
    return found


def _first(problems: list[str]) -> list[str]:
    """As many as one reads."""
    more = len(problems) - 20
    return problems[:20] + ([f"and {more} more (stateshift protein inspect shows them all)."] if more > 0 else [])


def reads_like_dna(sequence: str) -> bool:
    """Whether a sequence of 20 letters or more has all four bases and no other letter but N.

    Examples
    --------
    >>> reads_like_dna("ATGGCCTTAGACCGTATTGCCN"), reads_like_dna("MKVLAAGGWERTSPQHNCAATG")
    (True, False)
    """
    letters = set(sequence)
    bases = (letters <= set("ACGTN") and letters >= set("ACGT")) or (letters <= set("ACGUN") and letters >= set("ACGU"))
    return bases and len(sequence) >= 20


LONGEST = 10_000_000
"""Residues of a record, a hundred times those of any protein: a few megabytes of gzip could fill any memory."""


def raw_records(path: Path) -> Iterator[tuple[str, str]]:
    """Header and sequence of every record as they stand in the file, unchecked."""
    header: str | None = None
    parts: list[str] = []
    length = 0
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(parts)
            header, parts, length = line[1:].strip(), [], 0
            if not header:
                raise StateshiftError(f"{path}, line {number}: a record without a name.")
        elif line.strip():
            if header is None:
                raise StateshiftError(
                    f"{path} is no FASTA file: line {number} should start a record with `>` and reads "
                    f"`{line.strip()[:40]}`."
                )
            parts.append("".join(line.split()))
            length += len(parts[-1])
            if length > LONGEST:
                raise StateshiftError(f"{path}: record `{header[:40]}` goes on for more than {LONGEST:,} residues.")
    if header is not None:
        yield header, "".join(parts)


def _lines(path: Path) -> Iterator[str]:
    """Text lines of a plain or gzipped file, its damage told in one sentence."""
    if not path.is_file():
        told = "this is a folder, name a FASTA file in it" if path.is_dir() else "there is no such FASTA file"
        raise StateshiftError(f"{path}: {told}.")
    try:
        with path.open("rb") as handle:
            gzipped = handle.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8-sig") if gzipped else path.open(encoding="utf-8-sig") as lines:
            yield from iter(lambda: lines.readline(LONGEST), "")
    except UnicodeDecodeError as error:
        raise StateshiftError(f"{path} is no FASTA file: it isn't text in UTF-8; save it as such.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StateshiftError(f"{path} is a damaged gzip file ({error}): fetch it again.") from error
    except OSError as error:
        raise StateshiftError(f"{path} can't be read: {error.strerror or error}.") from error
