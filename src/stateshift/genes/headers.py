"""What the header of a FASTA record names: gene, accession, Ensembl ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol


class ProteinRecord(Protocol):
    """What is read of a FASTA record; `stateshift.proteins.Protein` is one."""

    id: str
    description: str
    sequence: str


@dataclass(frozen=True)
class Header:
    """What a record's header names.

    Parameters
    ----------
    symbol
        The gene's symbol, where one is named.
    ids
        Everything else that the record goes by: its id, accession (with and without an isoform's number), entry
        name, Ensembl ids without versions.
    is_reviewed
        Whether it is an entry of Swiss-Prot (``sp|``).
    is_isoform
        Whether it is a UniProt isoform beside the canonical sequence (``P04637-2``).
    """

    symbol: str | None
    ids: frozenset[str]
    is_reviewed: bool = False
    is_isoform: bool = False


def header_of(protein: ProteinRecord) -> Header:
    """Read a header of UniProt, Ensembl or GENCODE; of any other the id alone.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> p53 = header_of(SimpleNamespace(id="sp|P04637-2|P53_HUMAN", description="OS=Homo sapiens GN=TP53 PE=1"))
    >>> p53.symbol, sorted(p53.ids), p53.is_isoform
    ('TP53', ['P04637', 'P04637-2', 'P53_HUMAN', 'sp|P04637-2|P53_HUMAN'], True)
    >>> gencode = "ENSP00000269305.4|ENST00000269305.9|ENSG00000141510.19|-|-|TP53-201|TP53|393"
    >>> header_of(SimpleNamespace(id=gencode, description="")).symbol
    'TP53'
    """
    fields = protein.id.split("|")
    if fields[0] in ("sp", "tr") and len(fields) == 3:
        accession, bare = fields[1], fields[1].partition("-")[0]
        ids = {protein.id, accession, bare, *(name for name in fields[2:] if "_" in name)}
        return Header(symbol_of(protein.description), frozenset(ids), fields[0] == "sp", accession != bare)
    named = re.findall(r"\b(?:gene|transcript):(\S+)", protein.description)
    ids = {protein.id, *(id.partition(".")[0] for id in (*fields, *named) if id.startswith("ENS"))}
    is_gencode = len(fields) == 8 and re.match(r"ENS[A-Z]*P\d", fields[0]) is not None
    return Header(fields[6] if is_gencode else symbol_of(protein.description), frozenset(ids))


def symbol_of(description: str) -> str | None:
    """The gene symbol after UniProt's ``GN=`` or Ensembl's ``gene_symbol:``.

    Examples
    --------
    >>> symbol_of("A1BG_HUMAN OS=Homo sapiens OX=9606 GN=A1BG PE=1 SV=4")
    'A1BG'
    """
    named = re.search(r"(?:^|\s)GN=(.+?)(?=\s+[A-Z]{2}=|\s*$)|(?:^|\s)gene_symbol:(\S+)", description)
    return (named[1] or named[2]).strip() if named else None
