"""A fusion without one of its parts, with one alone, and with the genes of one shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features.fuse import fused_tables


def fused_parts(paths: list[Path]) -> FeatureTable:
    """One table with the columns of each part in its provenance."""
    if len(paths) > 1:
        return fused_tables(paths, np.full(len(paths), 1 / len(paths)))
    table = FeatureTable.load(paths[0])
    parts = table.provenance.get("parts")
    if table.provenance.get("source") != "fusion" or not parts:
        part = {"source": table.provenance.get("source", "table"), "file": paths[0].name, "columns": [0, table.width]}
        filled = list(table.provenance.get("missing_policy", {}))
        return FeatureTable(table.genes, table.vectors, {"source": "fusion", "parts": [part | {"lacks": filled}]})
    if not all("columns" in part for part in parts):
        raise StateshiftError(
            f"{paths[0]} doesn't tell which columns each of its sources has (it was reduced with --width, or fused by an earlier "
            "version): name the tables themselves, or fuse them anew."
        )
    return table


def of_parts(fused: FeatureTable, chosen: Sequence[int]) -> FeatureTable:
    """Some parts of a fusion, side by side."""
    parts, blocks, start = [], [], 0
    for i in chosen:
        part = fused.provenance["parts"][i]
        block = fused.vectors[:, slice(*part["columns"])]
        blocks.append(block)
        parts.append(part | {"columns": [start, start + block.shape[1]]})
        start += block.shape[1]
    return FeatureTable(fused.genes, np.concatenate(blocks, axis=1), {"source": "fusion", "parts": parts})


def shuffled(fused: FeatureTable, i: int, seed: int) -> FeatureTable:
    """The fusion with the vectors of one part dealt anew among the genes that it has."""
    part = fused.provenance["parts"][i]
    has = np.flatnonzero(~np.isin(fused.genes, list(part.get("lacks", []))))
    vectors = fused.vectors.copy()
    columns = np.arange(*part["columns"])
    vectors[np.ix_(has, columns)] = vectors[np.ix_(np.random.default_rng(seed).permutation(has), columns)]
    return FeatureTable(fused.genes, vectors, fused.provenance)


def part_name(parts: Sequence[dict], i: int) -> str:
    """A part by its source, with its file where two have one source."""
    sources = [part.get("source", "table") for part in parts]
    file = parts[i].get("file")
    return f"{sources[i]} ({file})" if file and (sources.count(sources[i]) > 1 or sources[i] == "table") else sources[i]
