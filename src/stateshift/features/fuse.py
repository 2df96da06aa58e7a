"""Several feature tables side by side as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from stateshift import __version__
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.table_files import read_vectors
from stateshift.files import sha256

logger = logging.getLogger(__name__)

LITTLE = 0.1
"""A table that holds a smaller share of all genes is told of."""


def fuse_features(
    tables: Sequence[str | Path],
    output: str | Path,
    *,
    weights: str | Sequence[float] | None = None,
    width: int | None = None,
    overwrite: bool = False,
) -> FeatureTable:
    """Fuse tables into one, so that two genes' similarity is the weighted mean of their similarities in each.

    A table's columns are standardised over its genes and constant ones left out; columns whose products are
    similarities as they stand (``comparable_rows`` in the provenance: gene sets, networks, …) keep their sizes.
    All rows of a table are then divided by one number, so that their mean squared length is its weight, and what
    strength a length tells stays. The fused table holds every gene of any table; a gene that a table lacks has zeros
    in its columns, and the provenance names both.

    Parameters
    ----------
    tables
        Two or more files: ``.pt``, ``.csv``, ``.tsv``, ``.npz`` or ``.h5ad``.
    output
        The ``.pt`` file; ``output.json`` beside it holds the provenance.
    weights
        A positive number a table (a text parts them by commas); they are divided by their sum. Default: equal.
    width
        Reduce to the leading singular directions, at most so many. Default: all columns.
    overwrite
        Replace an existing output.

    Raises
    ------
    StateshiftError
        A table can't be read, all its columns are constant, or the output exists.
    InputProblems
        Fewer than two tables, one of them twice, or weights that don't fit.
    """
    paths, output = [Path(path) for path in tables], Path(output)
    shares = _shares(paths, weights)
    if output.resolve() in {path.resolve() for path in paths}:
        raise StateshiftError(f"{output} is one of the tables and the --output: choose another output.")
    fused = fused_tables(paths, shares, width)
    fused.save(output, overwrite=overwrite)
    return fused


def fused_tables(paths: Sequence[Path], shares: np.ndarray, width: int | None = None) -> FeatureTable:
    """The table that `fuse_features` writes, in memory.

    Parameters
    ----------
    paths, shares
        N files, and their weights (N,), which sum to one.
    width
        As there.

    Returns
    -------
    FeatureTable
        ``provenance["parts"]`` describes each file; unless the table was reduced, ``columns`` of a part are the first
        of its columns and the one after its last.
    """
    read = [read_vectors(path) for path in paths]
    _tell_strangers(paths, read)
    own = {gene for table in read for gene in set(table.genes) - set(table.provenance.get("missing_policy", {}))}
    named = dict.fromkeys(gene for table in read for gene in table.genes)
    genes = [gene for gene in named if gene in own]
    row = {gene: i for i, gene in enumerate(genes)}
    blocks, parts, start = [], [], 0
    for path, table, share in zip(paths, read, shares):
        rows, constant = _standardised(table, path)
        block = np.zeros((len(genes), rows.shape[1]), dtype=np.float32)
        kept = [i for i, gene in enumerate(table.genes) if gene in own]
        block[[row[table.genes[i]] for i in kept]] = rows[kept] * np.sqrt(share)
        blocks.append(block)
        parts.append(_part(path, table, share, genes, constant) | {"columns": [start, start + rows.shape[1]]})
        start += rows.shape[1]
    vectors = np.concatenate(blocks, axis=1)
    if width is not None and width < vectors.shape[1]:
        vectors = _reduced(vectors, width)
        for part in parts:
            del part["columns"]
    provenance: dict[str, Any] = {
        "source": "fusion",
        "parts": parts,
        "comparable_rows": True,
        "missing": {gene: "filled in wherever it stands" for gene in named if gene not in own},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "stateshift": __version__,
    }
    provenance |= {key: True for key in ("measured_effects", "demo") if any(t.provenance.get(key) for t in read)}
    return FeatureTable(genes, vectors, provenance)


def _tell_strangers(paths: Sequence[Path], read: Sequence[FeatureTable]) -> None:
    """Warn of a table that shares no gene with any other: ids, or another case, perhaps."""
    for path, table in zip(paths, read):
        others = [gene for other in read if other is not table for gene in other.genes]
        if set(table.genes).isdisjoint(others):
            logger.warning(
                "%s shares no gene with the other tables (%s there, %s in others): are they named otherwise?",
                *(path, some(table.genes, 3), some(others, 3)),
            )


def _shares(paths: Sequence[Path], weights: str | Sequence[float] | None) -> np.ndarray:
    """Weights (N,) that sum to one."""
    problems = []
    if len(paths) < 2:
        problems.append("two or more tables are fused: name another.")
    twice = sorted({str(path) for path in paths if [p.resolve() for p in paths].count(path.resolve()) > 1})
    if twice:
        problems.append(f"named twice: {some(twice)}.")
    given = weights.split(",") if isinstance(weights, str) else weights
    try:
        shares = np.ones(len(paths)) if given is None else np.array([float(w) for w in given])
    except ValueError:
        shares = np.array([np.nan])
    if len(shares) != len(paths) or not (np.isfinite(shares) & (shares > 0)).all():
        problems.append(
            f"--weights {weights}: {len(paths)} positive numbers are needed, one a table, parted by commas."
        )
    if problems:
        raise InputProblems("fuse", problems)
    return shares / shares.sum()


def _standardised(table: FeatureTable, path: Path) -> tuple[np.ndarray, int]:
    """Rows (P, F') of mean squared length one, and how many constant columns were left out; what a policy filled in is zero."""
    vectors = table.vectors.astype(np.float64)
    filled = np.isin(table.genes, list(table.provenance.get("missing_policy", {})))
    own = vectors[~filled]
    spread = own.std(axis=0) if len(own) else np.zeros(table.width)
    varies = spread > 1e-6 * np.abs(own).max(axis=0, initial=1e-12)
    if not varies.any():
        raise StateshiftError(f"{path}: every column is constant over its genes, so it tells nothing: leave it out.")
    if table.provenance.get("comparable_rows"):
        rows = vectors[:, np.abs(own).max(axis=0) > 0]
    else:
        rows = (vectors[:, varies] - own[:, varies].mean(axis=0)) / spread[varies]
    rows[filled] = 0
    length = np.sqrt((rows[~filled] ** 2).sum(axis=1).mean())
    return rows / length, int(table.width - rows.shape[1])


def _reduced(vectors: np.ndarray, width: int) -> np.ndarray:
    """Leading singular directions (P, width); products of rows change least."""
    from sklearn.utils.extmath import randomized_svd

    left, singular, _ = randomized_svd(vectors, min(width, *vectors.shape), random_state=0)
    return (left * singular).astype(np.float32)


def _part(path: Path, table: FeatureTable, share: float, genes: Sequence[str], constant: int) -> dict[str, Any]:
    filled = table.provenance.get("missing_policy", {})
    own = set(table.genes) - set(filled)
    lacking = [gene for gene in genes if gene not in own]
    coverage = len(own) / len(genes)
    if coverage < LITTLE:
        logger.warning(
            "%s holds %d of %d genes (%.0f %%): it tells little.", path, len(own), len(genes), 100 * coverage
        )
    return {
        "file": path.name,
        "sha256": sha256(path),
        "source": table.provenance.get("source", "table"),
        "weight": float(share),
        "width": table.width,
        "constant_columns": constant,
        "genes": len(own),
        "coverage": coverage,
        "lacks": lacking,
        "provenance": table.provenance,
    }
