"""FASTA files: protein sequences in, in the letters of the ESM alphabet."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, some

logger = logging.getLogger(__name__)

LETTERS = frozenset("LAGVSERTIDPKQNFYMHWCXBUZO")


@dataclass(frozen=True)
class Protein:
    """One FASTA record.

    Parameters
    ----------
    id
        The header up to the first blank, without ``>``.
    description
        The rest of the header.
    sequence
        L residues, upper case, each a letter of `LETTERS`.
    """

    id: str
    description: str
    sequence: str


def read_fasta(path: str | Path) -> list[Protein]:
    """Read all proteins of a FASTA file, plain or gzipped.

    Lower case becomes upper case, a ``*`` at the end is stripped, and J (leucine or isoleucine, a
    letter ESM2 doesn't have) becomes X with a warning that counts them; U, O, B, Z and X stay.

    Parameters
    ----------
    path
        The file; it may be gzipped under any name.

    Returns
    -------
    list of Protein
        In the order of the file.

    Raises
    ------
    StateshiftError
        The file is missing, empty, damaged or no FASTA.
    InputProblems
        Records without residues, with letters that are no amino acids, or of DNA, every one of them named.
    """
    path = Path(path)
    proteins: list[Protein] = []
    problems: list[str] = []
    replaced = 0
    for header, raw in raw_records(path):
        name, _, description = header.partition(" ")
        sequence = raw.upper().removesuffix("*")
        replaced += sequence.count("J")
        sequence = sequence.replace("J", "X")
        strange = sorted(set(sequence) - LETTERS)
        if not sequence:
            problems.append(f"record `{name}` has no residues.")
        elif strange:
            hint = " (gaps of an alignment? remove them)" if {"-", "."} & set(strange) else ""
            problems.append(f"record `{name}` holds {some(map(repr, strange))}, no amino acid{hint}.")
        elif reads_like_dna(sequence):
            problems.append(f"record `{name}` reads like DNA or RNA: translate it to protein first.")
        else:
            proteins.append(Protein(name, description.strip(), sequence))
    if problems:
        shown = problems[:20]
        more = [f"and {len(problems) - 20} records more."] if len(problems) > 20 else []
        raise InputProblems(str(path), shown + more)
    if not proteins:
        raise StateshiftError(f"{path} holds no FASTA record: a record starts with a line `>name`.")
    if replaced:
        logger.warning("%s: %d residues J (leucine or isoleucine) are read as X.", path, replaced)
    return proteins


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
    found: dict[str, str] = {}
    doubled, repeated = [], 0
    for protein in proteins:
        if protein.id not in found:
            found[protein.id] = protein.sequence
        elif found[protein.id] == protein.sequence:
            repeated += 1
        else:
            doubled.append(f"`{protein.id}` names two different sequences: give each an id of its own.")
    if doubled:
        doubled = list(dict.fromkeys(doubled))
        raise InputProblems(where, doubled[:20] + ([f"and {len(doubled) - 20} ids more."] if len(doubled) > 20 else []))
    if repeated:
        logger.warning("%s: %d records are there twice, sequence and all, and count once.", where, repeated)
    return found


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


def raw_records(path: Path) -> Iterator[tuple[str, str]]:
    """Header and sequence of every record as they stand in the file, unchecked."""
    header: str | None = None
    parts: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(parts)
            header, parts = line[1:].strip(), []
            if not header:
                raise StateshiftError(f"{path}, line {number}: a record without a name.")
        elif line.strip():
            if header is None:
                raise StateshiftError(
                    f"{path} is no FASTA file: line {number} should start a record with `>` and reads "
                    f"`{line.strip()[:40]}`."
                )
            parts.append("".join(line.split()))
    if header is not None:
        yield header, "".join(parts)


def _lines(path: Path) -> Iterator[str]:
    """Text lines of a plain or gzipped file, its damage told in one sentence."""
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such FASTA file.")
    try:
        with path.open("rb") as handle:
            gzipped = handle.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if gzipped else path.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise StateshiftError(f"{path} is no FASTA file: it isn't text.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StateshiftError(f"{path} is a damaged gzip file ({error}): fetch it again.") from error
    except OSError as error:
        raise StateshiftError(f"{path} can't be read: {error.strerror or error}.") from error
