"""The sources of feature vectors by name, ours and those of other packages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.cells import Experiment
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.features.directions import WIDTH
from stateshift.genes import GeneNames

logger = logging.getLogger(__name__)

GROUP = "stateshift.features"
BUILT_IN = {
    "esm2": "stateshift.features.sources.esm2:esm2_features",
    "table": "stateshift.features.sources.table:table_features",
    "gene_sets": "stateshift.features.sources.gene_sets:gene_set_features",
    "network": "stateshift.features.sources.network:network_features",
    "symbol": "stateshift.features.sources.symbol:symbol_features",
    "expression": "stateshift.features.sources.expression:expression_features",
    "screen": "stateshift.features.sources.screen:screen_features",
    "structure": "stateshift.features.sources.structure:structure_features",
    "bioemb": "stateshift.features.sources.bioemb:bioemb_features",
    "rag_esm": "stateshift.features.sources.rag_esm:rag_esm_features",
    "onehot": "stateshift.features.sources.onehot:onehot_features",
    "random": "stateshift.features.sources.random:random_features",
}
CHOICES = ("fasta", "checkpoint", "layer", "pooling", "lookup", "width", "aliases", "coverage", "transductive")
"""What a user may choose of a source; each declares what it reads of them."""
ZEROS = "its vector is all zeros"
LISTED = 10
"""Genes up to which each that is missing has a line of its own even where all are."""
POLICIES = ("error", "zero", "mean", "drop")


@dataclass(frozen=True)
class FeatureRequest:
    """What a source is asked for.

    Parameters
    ----------
    genes
        Symbols, each once.
    output
        The table's final name; a source may keep unfinished work beside it.
    fasta, checkpoint, lookup, aliases
        What the user named; a source uses what it needs.
    layer, pooling
        Of a protein language model: which layer, and how one vector comes of its residues.
    width
        The most columns of a source that reduces to as many as wanted.
    coverage
        Where a source that looks genes up writes what it found for each.
    missing
        What becomes of genes without a vector, one of `POLICIES`.
    experiment
        Where the genes come from, if from one: a source that is fitted leaves the genes out that it holds out.
    transductive
        Whether such a source is fitted on all genes instead.
    """

    genes: list[str]
    output: Path
    fasta: Path | None = None
    checkpoint: str | None = None
    lookup: Path | None = None
    aliases: Path | None = None
    layer: int = -1
    pooling: str = "mean"
    width: int = WIDTH
    coverage: Path | None = None
    missing: str = "error"
    experiment: Experiment | None = None
    transductive: bool = False

    def file(self, what: str) -> Path:
        """The file named by ``lookup``.

        Raises
        ------
        StateshiftError
            None is named, or there is no such file.
        """
        if self.lookup is None:
            raise StateshiftError(
                f"This source reads {what}: name the file with --lookup, in an experiment [features] lookup."
            )
        if not self.lookup.exists():
            raise StateshiftError(f"{self.lookup}: there is no such file.")
        return self.lookup

    def names(self) -> GeneNames | None:
        """The other names of genes, where the user named a table of them."""
        return GeneNames.from_hgnc(self.aliases) if self.aliases else None

    def picked(
        self,
        genes: Sequence[str],
        vectors: np.ndarray,
        provenance: dict[str, Any],
        absent: str,
        names: GeneNames | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> FeatureTable:
        """The table of the requested genes among all that a source has, and why the others are missing.

        Parameters
        ----------
        genes, vectors
            All that the source has: P names and an array (P, F). A row of zeros is no vector.
        provenance
            What the source tells of itself; ``missing`` and, with `names`, ``matched_by`` are added.
        absent
            Why a gene is missing that the source doesn't name.
        names
            With them, a gene is also found by its other names.
        reasons
            Gene → why it is missing, where the source knows better.

        Raises
        ------
        StateshiftError
            Genes are missing and the policy is ``error``.
        """
        row = {gene: i for i, gene in enumerate(genes)}
        empty = {gene: ZEROS for gene, i in row.items() if not vectors[i].any()}
        known = {**empty, **(reasons or {})}
        found, missing = self.matched(genes, absent, names, known)
        where = provenance.get("lookup", f"`{provenance['source']}`")
        slips = any("case differs" in why for why in missing.values())
        if len(self.genes) > LISTED and not (found or slips or set(self.genes) & set(known)):
            raise StateshiftError(
                f"{where} has none of the {len(self.genes):,} genes: {some(self.genes, 3)} are asked for, and it holds "
                f"{some(genes, 3)}. Are they named otherwise, as ids perhaps?"
            )
        self.refuse_missing(missing, where)
        logger.info("%d of %d genes found in %s.", len(found), len(self.genes), where)
        matched = {gene: there for gene, there in found.items() if there != gene}
        told = {**provenance, "missing": missing, **({"matched_by": matched} if names else {})}
        return FeatureTable(list(found), vectors[[row[there] for there in found.values()]], told)

    def matched(
        self,
        genes: Sequence[str],
        absent: str,
        names: GeneNames | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Requested gene → what it is called among those that a source has; and gene → why it has no vector.

        Parameters
        ----------
        genes, absent, names, reasons
            As `picked` takes them.
        """
        there_are, known = set(genes), reasons or {}
        by_key = {names.key(gene): gene for gene in reversed(list(genes))} if names else {}
        folded = {gene.casefold(): gene for gene in genes}
        found, missing = {}, {}
        for gene in self.genes:
            there = gene if gene in there_are else by_key.get(names.key(gene)) if names else None
            if there is not None and there not in known:
                found[gene] = there
                continue
            slip = folded.get(gene.casefold())
            missing[gene] = known.get(there or gene, absent) + (
                f" (did you mean `{slip}`? case differs)" if slip and slip != gene and there is None else ""
            )
        return found, missing

    def refuse_missing(self, missing: Mapping[str, str], where: str) -> None:
        """Stop before any costly work where genes have no vector and the user chose no policy.

        Parameters
        ----------
        missing
            Gene → why.
        where
            What was searched.

        Raises
        ------
        StateshiftError
            ``missing`` is not empty and the policy is ``error``; all genes are named.
        """
        if not missing or self.missing != "error":
            return
        lines = "\n".join(f"  - {gene}: {why}" for gene, why in missing.items())
        raise StateshiftError(
            f"{len(missing)} of {len(self.genes)} genes have no vector from {where}:\n{lines}\n"
            "Mend the names or the source, or say what becomes of them with --missing zero, mean or drop, "
            'in an experiment [features] missing = "drop".'
        )


FeatureSource = Callable[[FeatureRequest], FeatureTable]
"""A source answers a request with the vectors it has, and ``provenance["missing"]``: gene → why, for the rest."""
Lacking = Callable[[FeatureRequest], dict[str, str]]
"""Requested gene → why a source can have no vector of it, told without making any."""


def reads(*choices: str, lacking: Lacking | None = None, later: str = "") -> Callable[[FeatureSource], FeatureSource]:
    """Declare what a source reads of the user's `CHOICES`: the others are refused, as is any of a source that declares none.

    Parameters
    ----------
    choices
        Names among `CHOICES`.
    lacking
        What ``stateshift check`` asks before anything is computed; without it genes that lack a vector are known
        once the table is made.
    later
        What `lacking` can't tell of yet, as genes, where there is such.

    Examples
    --------
    >>> source = reads("lookup", "width")(lambda request: FeatureTable([], np.zeros((0, 1))))
    >>> source.reads, source.lacking
    (('lookup', 'width'), None)
    """

    def declare(source: FeatureSource) -> FeatureSource:
        source.reads, source.lacking, source.later = choices, lacking, later
        return source

    return declare


def choices_of(name: str) -> tuple[str, ...]:
    """What the source of a name reads of `CHOICES`."""
    return tuple(getattr(feature_source(name), "reads", ()))


def readers(choice: str) -> list[str]:
    """Those of our sources that read one of `CHOICES`."""
    return [name for name in BUILT_IN if choice in choices_of(name)]


def unread(name: str, chosen: Iterable[str]) -> dict[str, str]:
    """Of what a user chose, what a source doesn't read, and which of ours do, as a sentence without its end."""
    own, told = choices_of(name), {}
    for choice in (choice for choice in chosen if choice not in own):
        others = readers(choice)
        told[choice] = f"`{name}` doesn't read it, {some(others, 9)} {'do' if len(others) > 1 else 'does'}"
    return told


def feature_source(name: str) -> FeatureSource:
    """The source of a name: one of ours, or an entry point of the group ``stateshift.features``.

    Raises
    ------
    StateshiftError
        No source has the name, or the package that offers it can't be imported.
    """
    if name in BUILT_IN:
        module, function = BUILT_IN[name].split(":")
        return getattr(import_module(module), function)
    offered = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in offered:
        near = suggestion(name, [*BUILT_IN, *offered])
        way = ": a table that exists goes into [features] table" if Path(name).suffix else near
        raise StateshiftError(f"There is no feature source `{name}`{way}.")
    try:
        return offered[name].load()
    except (ImportError, AttributeError) as error:
        raise StateshiftError(
            f"The feature source `{name}` ({offered[name].value}) can't be loaded: {error}"
        ) from error
