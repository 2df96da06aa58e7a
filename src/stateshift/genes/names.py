"""Names that one gene goes by: symbols old and new, aliases, Ensembl ids, spellings."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from stateshift.errors import StateshiftError, some
from stateshift.genes.spelling import folded

ENSEMBL = re.compile(r"ENS[A-Z]*G\d{9,}(\.\d+)?$")
KINDS = {"prev_symbol": "previous symbol", "alias_symbol": "alias", "ensembl_gene_id": "Ensembl id"}


class GeneNames:
    """What tells that two names are one gene.

    The approved symbol of a name, where a table of HGNC was read, and spelling (`folded`) in any case.
    A name that could be several genes' old symbol or alias stays what it is.

    Parameters
    ----------
    meanings
        Name → each approved symbol that it may stand for, with what it is to that symbol: a value of `KINDS`,
        or ``symbol`` for the approved symbol itself, which stands for nothing else.
    proteins
        Approved symbol → accessions of its proteins in UniProt.
    loci
        Approved symbol → HGNC's group of loci, as ``non-coding RNA``.
    has_table
        Whether HGNC's table was read.
    """

    def __init__(
        self,
        meanings: Mapping[str, Mapping[str, str]] | None = None,
        proteins: Mapping[str, tuple[str, ...]] | None = None,
        loci: Mapping[str, str] | None = None,
    ):
        self.meanings, self.proteins, self.loci = meanings or {}, proteins or {}, loci or {}
        self.has_table = meanings is not None

    @classmethod
    def from_hgnc(cls, path: str | Path) -> GeneNames:
        """With a tab-separated table of HGNC's columns.

        ``symbol``, ``alias_symbol``, ``prev_symbol`` and ``ensembl_gene_id`` are needed, ``uniprot_ids`` and
        ``locus_group`` are read where they are there; several names in a cell are parted by ``|``.

        Raises
        ------
        StateshiftError
            The file is missing, isn't text, or lacks a column.
        """
        meanings: dict[str, dict[str, str]] = {}
        proteins: dict[str, tuple[str, ...]] = {}
        loci: dict[str, str] = {}
        symbols: set[str] = set()
        for row in _rows(Path(path)):
            symbol = row["symbol"]
            symbols.add(symbol)
            for column, kind in KINDS.items():
                for name in _parted(row[column]):
                    meanings.setdefault(name, {}).setdefault(symbol, kind)
            proteins[symbol] = tuple(_parted(row.get("uniprot_ids")))
            loci[symbol] = row.get("locus_group") or ""
        return cls(meanings | {symbol: {symbol: "symbol"} for symbol in symbols}, proteins, loci)

    def meaning(self, name: str) -> Mapping[str, str]:
        """Approved symbols that a name may stand for, with what it is to each; none where it is unknown.

        An Ensembl id's version is passed over. A name that the table doesn't hold as it is spelt stands for what its
        other spellings stand for.

        Examples
        --------
        >>> names = GeneNames({"KIAA1429": {"VIRMA": "previous symbol"}, "VIRMA": {"VIRMA": "symbol"}})
        >>> names.meaning("KIAA1429"), names.meaning("virma"), names.meaning("TP53")
        ({'VIRMA': 'previous symbol'}, {'VIRMA': 'symbol'}, {})
        """
        name = unversioned(name)
        return self.meanings.get(name) or self._by_spelling.get(folded(name), {})

    def key(self, name: str) -> str:
        """What two names of one gene have in common.

        Examples
        --------
        >>> names = GeneNames({"KIAA1429": {"VIRMA": "previous symbol"}, "VIRMA": {"VIRMA": "symbol"}})
        >>> names.key("KIAA1429") == names.key("virma")
        True
        >>> names.key("ENSG00000141510.18") == names.key("ENSG00000141510")
        True
        """
        meant = self.meaning(name)
        return folded(next(iter(meant)) if len(meant) == 1 else unversioned(name))

    @cached_property
    def _by_spelling(self) -> dict[str, dict[str, str]]:
        """As ``meanings``, by folded name; approved symbols come before everything else that is spelt alike."""
        found: dict[str, dict[str, str]] = {}
        for name, meant in self.meanings.items():
            here = found.setdefault(folded(name), {})
            for symbol, kind in meant.items():
                if here.get(symbol) != "symbol":
                    here[symbol] = kind
        for name, meant in found.items():
            approved = {symbol: kind for symbol, kind in meant.items() if kind == "symbol"}
            found[name] = approved or meant
        return found


def unversioned(name: str) -> str:
    """An Ensembl gene id without its version; any other name as it is.

    Examples
    --------
    >>> unversioned("ENSG00000141510.18"), unversioned("RP11-34P13.7")
    ('ENSG00000141510', 'RP11-34P13.7')
    """
    return name.partition(".")[0] if name.startswith("ENS") and ENSEMBL.match(name) else name


def _rows(path: Path) -> Iterable[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle, delimiter="\t")
            needed = ["symbol", *KINDS]
            absent = [column for column in needed if column not in (table.fieldnames or [])]
            if absent:
                raise StateshiftError(
                    f"{path} is no table of HGNC: it has no column {some(absent)} "
                    "(tab-separated, as hgnc_complete_set.txt is): get it anew with `stateshift data get hgnc`."
                )
            yield from (row for row in table if row["symbol"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StateshiftError(f"{path} can't be read as a table of HGNC: {reason}.") from error


def _parted(cell: str | None) -> list[str]:
    return [name for part in (cell or "").split("|") if (name := part.strip())]
