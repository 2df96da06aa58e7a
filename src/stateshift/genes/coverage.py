"""Which protein stands for a gene, and why some genes have none."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stateshift.errors import StateshiftError, some
from stateshift.files import written_beside
from stateshift.genes.headers import Header, ProteinRecord, header_of
from stateshift.genes.names import ENSEMBL, GeneNames
from stateshift.genes.spelling import folded

ENSEMBL_PRODUCT = re.compile(r"ENS[A-Z]*([TP])\d{9,}(\.\d+)?$")
ACCESSION = re.compile(r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})(-\d+)?$")
"""UniProt's own pattern of accessions, with an isoform's number."""
WITHOUT_PROTEIN = ("non-coding RNA", "pseudogene")
REASONS = ("reviewed before unreviewed", "canonical before isoforms", "the longest", "the first by id")
COLUMNS = ("gene", "protein", "length", "matched_by", "chosen_as", "passed_over", "missing_because")


@dataclass(frozen=True)
class Choice:
    """How a protein came to stand for a gene.

    Parameters
    ----------
    matched_by
        ``symbol``, or what else led from the name to the protein, as ``alias of VIRMA (HGNC)``.
    chosen_as
        What decided among several proteins, one of `REASONS`; ``the only one`` where there was nothing to decide.
    passed_over
        Ids of the others.
    """

    matched_by: str
    chosen_as: str
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class GeneCoverage:
    """Which of the wanted genes have a protein.

    Parameters
    ----------
    found
        Gene → the record chosen for it, in the order of the genes asked for.
    choices
        Gene → how it was chosen.
    missing
        Gene → why it has none, one clause each.
    """

    found: dict[str, ProteinRecord] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of genes asked for."""
        return len(self.found) + len(self.missing)

    @property
    def by_other_names(self) -> dict[str, str]:
        """Gene → what led to its protein, for genes not found by their symbol."""
        return {gene: c.matched_by for gene, c in self.choices.items() if c.matched_by != "symbol"}

    def write_csv(self, path: str | Path) -> None:
        """Write one row a gene, columns `COLUMNS`; an existing file is replaced."""
        with written_beside(path, overwrite=True) as beside, beside.open("w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, COLUMNS)
            table.writeheader()
            for gene, protein in self.found.items():
                choice = self.choices[gene]
                table.writerow(
                    {
                        "gene": gene,
                        "protein": protein.id,
                        "length": len(protein.sequence),
                        "matched_by": choice.matched_by,
                        "chosen_as": choice.chosen_as,
                        "passed_over": ";".join(choice.passed_over),
                    }
                )
            table.writerows({"gene": gene, "missing_because": why} for gene, why in self.missing.items())


def proteins_of_genes(
    genes: Iterable[str],
    proteins: Iterable[ProteinRecord],
    where: str = "the FASTA file",
    names: GeneNames | None = None,
) -> GeneCoverage:
    """Choose one protein a gene.

    A gene is sought by its symbol (``GN=`` of UniProt, ``gene_symbol:`` of Ensembl), then among the records' ids
    (UniProt accessions and entry names, Ensembl ids with or without versions), then by the symbol that HGNC's
    table has for it (aliases, previous symbols, Ensembl ids) and that symbol's accessions, at last by a symbol that
    differs in spelling alone. A name that could be several genes is missing, and those genes are named.

    Among several proteins, reviewed entries (``sp|``) come before all others, a canonical sequence before
    isoforms (``P12345-2``), then the longest; the id decides what is left.

    Parameters
    ----------
    genes
        Symbols or ids; repeated ones count once.
    proteins
        FASTA records.
    where
        What the records were read from, for messages.
    names
        Aliases and previous symbols; without them only what the FASTA itself says counts.

    Raises
    ------
    StateshiftError
        No record names a gene, and none has one of the wanted names for its id; or an id stands for several sequences.
    """
    search = _Search(proteins, where, names or GeneNames())
    coverage = GeneCoverage()
    for gene in dict.fromkeys(genes):
        records, told = search(gene)
        if not records:
            coverage.missing[gene] = told
            continue
        ranked = sorted(records, key=search.rank)
        coverage.found[gene] = ranked[0]
        passed_over = tuple(record.id for record in ranked[1:])
        coverage.choices[gene] = Choice(told, _chosen_as(*map(search.rank, ranked[:2])), passed_over)
    if not search.by_symbol and not coverage.found:
        raise StateshiftError(f"{where} names no genes: UniProt's headers do, as in `>sp|P04217|A1BG_HUMAN … GN=A1BG`.")
    return coverage


def _chosen_as(best: tuple, next_best: tuple | None = None) -> str:
    if next_best is None:
        return "the only one"
    return next((why for why, a, b in zip(REASONS, best, next_best) if a != b), REASONS[-1])


def _without_doubles(proteins: Iterable[ProteinRecord], where: str) -> Iterable[ProteinRecord]:
    """Each record once; an id of several sequences would leave open which of them is meant."""
    found: dict[str, ProteinRecord] = {}
    several: dict[str, None] = {}
    for protein in proteins:
        if found.setdefault(protein.id, protein).sequence != protein.sequence:
            several[protein.id] = None
    if several:
        raise StateshiftError(f"{where}: {some(several)} name several sequences each: give each an id of its own.")
    return found.values()


class _Search:
    """Records by everything they go by; near misses are sought for the first genes only, since that takes a while."""

    most_near_misses = 50

    def __init__(self, proteins: Iterable[ProteinRecord], where: str, names: GeneNames):
        self.where, self.names, self.near_misses = where, names, 0
        self.headers: dict[str, Header] = {}
        self.by_symbol: dict[str, list[ProteinRecord]] = {}
        self.by_id: dict[str, list[ProteinRecord]] = {}
        self.by_approved: dict[str, list[ProteinRecord]] = {}
        self.by_spelling: dict[str, set[str]] = {}
        for protein in _without_doubles(proteins, where):
            header = self.headers[protein.id] = header_of(protein)
            for id in header.ids:
                self.by_id.setdefault(id, []).append(protein)
            if header.symbol:
                self.by_symbol.setdefault(header.symbol, []).append(protein)
        for symbol, records in self.by_symbol.items():
            self.by_spelling.setdefault(folded(symbol), set()).add(symbol)
            meant = self.names.meaning(symbol)
            if len(meant) == 1:
                self.by_approved.setdefault(next(iter(meant)), []).extend(records)

    def rank(self, protein: ProteinRecord) -> tuple[bool, bool, int, str]:
        """Sort key: the smallest is the protein that stands for its gene."""
        header = self.headers[protein.id]
        return (not header.is_reviewed, header.is_isoform, -len(protein.sequence), protein.id)

    def __call__(self, gene: str) -> tuple[list[ProteinRecord], str]:
        """The gene's records and what led to them, or none and why."""
        if gene in self.by_symbol:
            return self.by_symbol[gene], "symbol"
        id = re.sub(r"\.\d+$", "", gene) if gene.startswith("ENS") else gene
        if id in self.by_id:
            return self.by_id[id], "id in the FASTA"
        meant = self.names.meaning(gene)
        if len(meant) > 1:
            told = ", ".join(f"{kind} of {symbol}" for symbol, kind in sorted(meant.items()))
            return [], f"one name of several genes in HGNC's table ({told}): use the symbol of the one meant"
        if meant:
            return self._by_meaning(gene, *next(iter(meant.items())))
        alike = sorted(self.by_spelling.get(folded(gene), ()))
        if len(alike) == 1:
            return self.by_symbol[alike[0]], f"spelling of {alike[0]}"
        if alike:
            return [], f"its spelling alone parts it from several symbols ({some(alike)}): use one of them"
        return [], self._why_unknown(gene)

    def _by_meaning(self, gene: str, symbol: str, kind: str) -> tuple[list[ProteinRecord], str]:
        """As `__call__`, for a name that is one gene in HGNC's table."""
        records, how = self._of_approved(symbol)
        if not records:
            return [], self._why_without(symbol, "" if symbol == gene else f"{kind} of {symbol}, and ")
        spelling = f"spelling of {symbol}"
        lead = f"{kind} of {symbol}" if kind != "symbol" else "" if symbol == gene else spelling
        told = ", ".join(step for step in (lead, how) if step)
        return records, told if told == spelling else f"{told} (HGNC)"

    def _of_approved(self, symbol: str) -> tuple[list[ProteinRecord], str]:
        """Records of an approved symbol, and what they go by where that is another name of it or an accession."""
        if symbol in self.by_symbol:
            return self.by_symbol[symbol], ""
        if records := self.by_approved.get(symbol):
            theirs = self.headers[min(records, key=self.rank).id].symbol
            kind = self.names.meaning(theirs)[symbol]
            return records, f"{theirs} in the FASTA, its {'other spelling' if kind == 'symbol' else kind}"
        found = {r.id: r for id in self.names.proteins.get(symbol, ()) for r in self.by_id.get(id, ())}
        return list(found.values()), "accession"

    def _why_without(self, symbol: str, lead: str) -> str:
        locus = self.names.loci.get(symbol, "")
        if locus in WITHOUT_PROTEIN:
            return f"{lead}{symbol} makes no protein ({locus}, HGNC)"
        return f"{lead}no protein has this symbol or its accessions" if lead else "no protein has this symbol"

    def _why_unknown(self, gene: str) -> str:
        table = "HGNC's table doesn't hold it" if self.names.has_table else "no table of names was given (--aliases)"
        if ENSEMBL.match(gene):
            return f"an Ensembl id that {self.where} doesn't name, and {table}"
        if product := ENSEMBL_PRODUCT.match(gene):
            kind = {"T": "transcript", "P": "protein"}[product[1]]
            return f"an Ensembl {kind} id that {self.where} doesn't name (a FASTA of Ensembl or GENCODE does)"
        if ACCESSION.match(gene):
            return f"a UniProt accession that {self.where} doesn't hold"
        self.near_misses += 1
        if self.near_misses <= self.most_near_misses:
            near = difflib.get_close_matches(gene, self.by_symbol, n=1, cutoff=0.8)
            if near:
                return f"no protein has this symbol (nearest: `{near[0]}`, another gene unless it was misspelt)"
        return "no protein has this symbol"
