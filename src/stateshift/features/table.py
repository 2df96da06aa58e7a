"""Features from a table that exists."""

from __future__ import annotations

import logging
from pathlib import Path

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.sources import FeatureRequest
from stateshift.files import sha256

logger = logging.getLogger(__name__)


def table_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' vectors as they stand in ``request.lookup``.

    Raises
    ------
    StateshiftError
        No lookup is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    if request.lookup is None:
        raise StateshiftError("The source `table` needs an existing table: name it with --lookup.")
    path = Path(request.lookup)
    table = FeatureTable.load(path)
    found = [gene for gene in request.genes if gene in table]
    folded = {gene.casefold(): gene for gene in table.genes}
    missing = {}
    for gene in request.genes:
        if gene not in table:
            slip = folded.get(gene.casefold())
            missing[gene] = "not in the table" + (f" (did you mean `{slip}`? case differs)" if slip else "")
    request.refuse_missing(missing, path.name)
    logger.info("%d of %d genes found in %s.", len(found), len(request.genes), path.name)
    origin = table.provenance
    provenance = {
        "source": "table",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "lookup_provenance": origin,
        "missing": missing,
    }
    # a vector that was filled in there is no measurement here either, and a demo stays a demo
    filled = {g: p for g, p in origin.get("missing_policy", {}).items() if g in set(found)}
    if filled:
        logger.info("%d of them were filled in when %s was made: %s.", len(filled), path.name, some(filled))
        provenance["filled_in_lookup"] = filled
    if origin.get("demo"):
        provenance["demo"] = True
        logger.info("%s was made with the embedded demo model: for trying out, not for research.", path.name)
    return FeatureTable(found, table.subset(found).vectors, provenance)
