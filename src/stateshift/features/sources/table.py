"""Features from a table that exists."""

from __future__ import annotations

import logging

from stateshift.errors import some
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest
from stateshift.features.table_files import read_vectors
from stateshift.files import sha256

logger = logging.getLogger(__name__)


def table_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' vectors as they stand in ``request.lookup``.

    Raises
    ------
    StateshiftError
        No lookup is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    path = request.file("a table of vectors (.pt, .csv, .tsv, .npz or .h5ad)")
    table = read_vectors(path)
    origin = table.provenance
    provenance = {
        "source": "table",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "lookup_provenance": origin,
        **{key: origin[key] for key in ("comparable_rows", "measured_effects") if key in origin},
    }
    # a vector that was filled in there is no measurement here either, and a demo stays a demo
    wanted = set(request.genes)
    filled = {g: p for g, p in origin.get("missing_policy", {}).items() if g in wanted}
    if filled:
        logger.info("%d of them were filled in when %s was made: %s.", len(filled), path.name, some(filled))
        provenance["filled_in_lookup"] = filled
    if origin.get("demo"):
        provenance["demo"] = True
        logger.info("%s was made with the embedded demo model: for trying out, not for research.", path.name)
    return request.picked(table.genes, table.vectors, provenance, "not in the table")
