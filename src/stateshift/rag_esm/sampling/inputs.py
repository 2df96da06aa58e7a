"""What is to be filled in and the homologs beside it, from FASTA files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.proteins.fasta import LETTERS, Protein, raw_records, read_fasta

logger = logging.getLogger(__name__)

MASK_WORD = "<mask>"


@dataclass(frozen=True)
class Request:
    """One protein to make.

    Parameters
    ----------
    name
        Of the input.
    masked
        With ``-`` for masked residues.
    context_name, context
        The homolog.
    """

    name: str
    masked: str
    context_name: str
    context: str


def read_masked(path: str | Path) -> list[Protein]:
    """A FASTA whose masked residues are ``<mask>`` or ``-``; returned with ``-``.

    Raises
    ------
    InputProblems
        Records of length 0 or with letters that are no amino acids, all of them named.
    StateshiftError
        The file can't be read or is empty.
    """
    path = Path(path)
    found, problems = [], []
    for header, raw in raw_records(path):
        name, _, description = header.partition(" ")
        sequence = raw.replace(MASK_WORD, "-").upper().removesuffix("*").replace("J", "X")
        strange = sorted(set(sequence) - LETTERS - {"-"})
        if not sequence:
            problems.append(f"record `{name}` has length 0: write a `-` for each residue to make.")
        elif strange:
            problems.append(f"record `{name}` holds {some(map(repr, strange))}, neither an amino acid nor a mask.")
        found.append(Protein(name, description, sequence))
    if problems:
        more = [f"and {len(problems) - 20} records more."] if len(problems) > 20 else []
        raise InputProblems(str(path), problems[:20] + more)
    if not found:
        raise StateshiftError(f"{path} holds no FASTA record: a record starts with a line `>name`.")
    return found


def read_requests(
    context: str | Path, masked: str | Path | None = None, fixed_length: int | None = None, max_context: int = 1024
) -> list[Request]:
    """Inputs and contexts, paired by their places in the files.

    Parameters
    ----------
    context
        A FASTA of homologs.
    masked
        A FASTA of masked proteins, as many.
    fixed_length
        Instead: so many masked residues for each context.
    max_context
        A longer context is cut at this length, which is said.

    Raises
    ------
    StateshiftError
        The files don't pair, or neither or both kinds of input are named.
    """
    if (masked is None) == (fixed_length is None):
        raise StateshiftError("Say what to make by one of --input (a FASTA) and --use-fixed-length-masked-input.")
    if fixed_length is not None and fixed_length < 1:
        raise StateshiftError(f"--use-fixed-length-masked-input must be 1 or more, not {fixed_length}.")
    if max_context < 1:
        raise StateshiftError(f"--max-context must be 1 or more, not {max_context}.")
    contexts = read_fasta(context)
    inputs = read_masked(masked) if masked is not None else [Protein(c.id, "", "-" * fixed_length) for c in contexts]
    if len(inputs) != len(contexts):
        fewer = min(len(inputs), len(contexts))
        file, alone = (masked, inputs) if len(inputs) > fewer else (context, contexts)
        raise StateshiftError(
            f"{masked} holds {len(inputs)} records and {context} {len(contexts)}: the first context belongs to the first "
            f"input, and so on, and `{alone[fewer].id}` of {file} has no partner."
        )
    long = [c.id for c in contexts if len(c.sequence) > max_context]
    if long:
        logger.warning(
            "Contexts longer than %d residues are cut there (%d of them): %s.", max_context, len(long), some(long, 5)
        )
    twins = [i.id for i, c in zip(inputs, contexts) if _shows(i.sequence, c.sequence)]
    if twins:
        logger.warning(
            "Inputs (%d of them) whose context has every residue that they give, as if it were the solution: %s.",
            len(twins),
            some(twins, 5),
        )
    whole = [i.id for i in inputs if "-" not in i.sequence]
    if whole:
        logger.warning("Inputs with nothing masked (%d of them) come back as they are: %s.", len(whole), some(whole, 5))
    return [Request(i.id, i.sequence, c.id, c.sequence[:max_context]) for i, c in zip(inputs, contexts)]


def _shows(masked: str, context: str) -> bool:
    """Whether a context is as long as the input and has all its given residues, two at least.

    Examples
    --------
    >>> _shows("MK--", "MKLA"), _shows("MA--", "MKLA"), _shows("----", "MKLA")
    (True, False, False)
    """
    given = [(a, b) for a, b in zip(masked, context) if a != "-"]
    return len(masked) == len(context) and len(given) > 1 and all(a == b for a, b in given)
