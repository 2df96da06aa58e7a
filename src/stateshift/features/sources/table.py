"""Features from a table that exists."""

from __future__ import annotations

import logging

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import ZEROS, FeatureRequest, reads
from stateshift.features.table_files import read_vectors
from stateshift.files import sha256
from stateshift.genes import GeneNames

logger = logging.getLogger(__name__)


READS = "a table of vectors (.pt, .csv, .tsv, .npz or .h5ad)"


def genes_not_in_table(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that the table lacks, or has zeros for."""
    path = request.file(READS)
    table = read_vectors(path)
    empty = {gene: ZEROS for gene, vector in zip(table.genes, table.vectors) if not vector.any()}
    return request.matched(table.genes, "not in the table", request.names(), empty)[1]


@reads("lookup", "aliases", lacking=genes_not_in_table)
def table_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' vectors as they stand in ``request.lookup``, with aliases also under their other names.

    Raises
    ------
    StateshiftError
        No lookup is named, it can't be read, it has several vectors that could be one gene's, or it lacks genes and the
        policy is ``error``.
    """
    path = request.file(READS)
    table = read_vectors(path)
    origin = table.provenance
    provenance = {
        "source": "table",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "lookup_provenance": origin,
        **{key: origin[key] for key in ("comparable_rows", "measured_effects") if key in origin},
    }
    if origin.get("demo"):
        provenance["demo"] = True
        logger.info("%s was made with the embedded demo model: for trying out, not for research.", path.name)
    names = request.names()
    if names:
        _refuse_several(request.genes, table, names, path.name)
    made = request.picked(table.genes, table.vectors, provenance, "not in the table", names)
    # a vector that was filled in there is no measurement here either, whatever its gene is called there
    called, policy = made.provenance.get("matched_by", {}), origin.get("missing_policy", {})
    filled = {gene: policy[there] for gene in made.genes if (there := called.get(gene, gene)) in policy}
    if filled:
        logger.info("%d of them were filled in when %s was made: %s.", len(filled), path.name, some(filled))
        made.provenance["filled_in_lookup"] = filled
    return made


def _refuse_several(genes: list[str], table: FeatureTable, names: GeneNames, where: str) -> None:
    """A StateshiftError where two rows that differ go by names of a gene that none of them is called by."""
    rows: dict[str, list[str]] = {}
    for name in table.genes:
        rows.setdefault(names.key(name), []).append(name)
    several = {gene: rows.get(names.key(gene), []) for gene in genes if gene not in table}
    told = [
        f"{gene} ({some([f'`{name}`' for name in found])})"
        for gene, found in several.items()
        if len(found) > 1 and np.ptp(table.subset(found).vectors, axis=0).any()
    ]
    if told:
        raise StateshiftError(
            f"{where} has vectors that differ under several names of one gene: {some(told, 4)}. Leave all but one of them out, "
            "or call one by the gene's symbol."
        )
