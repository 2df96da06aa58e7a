"""Gene symbols: lists of them, which protein stands for each, and why some have none."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stateshift.errors import StateshiftError

HEADERS = (
    "gene",
    "genes",
    "gene_name",
    "gene_names",
    "gene_symbol",
    "symbol",
    "target_gene",
    "perturbation",
    "feature",
    "name",
    "index",
    "0",
)


def read_names(path: str | Path) -> tuple[str | None, list[str]]:
    """The first column of a text, csv or tsv file, blank lines passed over.

    Returns
    -------
    tuple
        The header, where the first line reads like one (`HEADERS`), else None; and the names, repeats kept.

    Raises
    ------
    StateshiftError
        The file is missing, isn't text, or names nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such list of genes.")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        delimiter = "\t" if any("\t" in line for line in lines) else ","
        names = [row[0].strip() for row in csv.reader(lines, delimiter=delimiter) if row[0].strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StateshiftError(f"{path} can't be read as a list of genes: it is no text file.") from error
    header = names[0] if names and names[0].casefold() in HEADERS else None
    names = names[header is not None :]
    if not names:
        raise StateshiftError(f"{path} names no genes: one symbol a line, or a csv with symbols in its first column.")
    return header, names


class ProteinRecord(Protocol):
    """What is read of a FASTA record; `stateshift.proteins.Protein` is one."""

    id: str
    description: str
    sequence: str


@dataclass(frozen=True)
class GeneCoverage:
    """Which of the wanted genes have a protein.

    Parameters
    ----------
    found
        Gene symbol → the record chosen for it, in the order of the genes asked for.
    missing
        Gene symbol → why it has none, one clause each.
    """

    found: dict[str, ProteinRecord] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of genes asked for."""
        return len(self.found) + len(self.missing)


def symbol_of(description: str) -> str | None:
    """The gene symbol of a UniProt header, after ``GN=``.

    Examples
    --------
    >>> symbol_of("A1BG_HUMAN OS=Homo sapiens OX=9606 GN=A1BG PE=1 SV=4")
    'A1BG'
    """
    named = re.search(r"(?:^|\s)GN=(.+?)(?=\s+[A-Z]{2}=|\s*$)", description)
    return named[1].strip() if named else None


def proteins_of_genes(
    genes: Iterable[str], proteins: Iterable[ProteinRecord], where: str = "the FASTA file"
) -> GeneCoverage:
    """Choose one protein a gene, by the exact symbol after ``GN=``.

    Among several, reviewed entries (``sp|``) come before all others, a canonical sequence before
    isoforms (``P12345-2``), then the longest; the id decides what is left. A symbol that differs from
    a header's in case or punctuation alone is not taken for it: it is reported with that header's symbol.

    Parameters
    ----------
    genes
        Symbols; repeated ones count once.
    proteins
        FASTA records.
    where
        What the records were read from, for messages.

    Raises
    ------
    StateshiftError
        No record has a ``GN=``.
    """
    chosen: dict[str, ProteinRecord] = {}
    for protein in proteins:
        symbol = symbol_of(protein.description)
        if symbol and (symbol not in chosen or _rank(protein) < _rank(chosen[symbol])):
            chosen[symbol] = protein
    if not chosen:
        raise StateshiftError(f"{where} names no genes: UniProt's headers do, as in `>sp|P04217|A1BG_HUMAN … GN=A1BG`.")
    genes = list(dict.fromkeys(genes))
    found = {gene: chosen[gene] for gene in genes if gene in chosen}
    explain = _Explanation(chosen)
    return GeneCoverage(found, {gene: explain(gene) for gene in genes if gene not in chosen})


def _rank(protein: ProteinRecord) -> tuple[bool, bool, int, str]:
    """Sort key: the smallest is the protein that stands for its gene."""
    fields = protein.id.split("|")
    accession = fields[1] if len(fields) > 1 else fields[0]
    is_isoform = re.search(r"-\d+$", accession) is not None
    return (fields[0] != "sp", is_isoform, -len(protein.sequence), protein.id)


class _Explanation:
    """Why a gene has no protein; near misses are sought for the first genes only, since that takes a while."""

    most_searches = 50

    def __init__(self, symbols: Iterable[str]):
        self.symbols = list(symbols)
        self.by_letters = {_letters(symbol): symbol for symbol in reversed(self.symbols)}
        self.searches = 0

    def __call__(self, gene: str) -> str:
        if re.fullmatch(r"ENS[A-Z]*[GTP]\d{11}(\.\d+)?", gene):
            return "an Ensembl id: gene symbols are needed"
        slip = self.by_letters.get(_letters(gene))
        if slip is not None:
            how = "case" if slip.casefold() == gene.casefold() else "punctuation"
            return f"no protein has this symbol (did you mean `{slip}`? {how} differs)"
        self.searches += 1
        if self.searches <= self.most_searches:
            near = difflib.get_close_matches(gene, self.symbols, n=1, cutoff=0.8)
            if near:
                return f"no protein has this symbol (nearest: `{near[0]}`, another gene unless it was misspelt)"
        return "no protein has this symbol"


def _letters(symbol: str) -> str:
    """A symbol without case and punctuation."""
    return re.sub(r"[^0-9a-z]", "", symbol.casefold())
