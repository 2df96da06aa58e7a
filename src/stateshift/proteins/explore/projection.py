"""A map of proteins: the first two principal components of their vectors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.proteins.explore.stored.embeddings import Embeddings

COMPONENTS, OF_TABLE = ("PC1", "PC2"), "_table"
"""Our columns, and how a table's own of these names end beside them."""


@dataclass(frozen=True)
class Projection:
    """Proteins in two dimensions.

    Parameters
    ----------
    table
        ``id``, ``PC1``, ``PC2`` and the columns of a table that was joined.
    explained
        Share of the variance along each component.
    notes
        A sentence each.
    """

    table: pd.DataFrame
    explained: tuple[float, float]
    notes: tuple[str, ...] = ()


def project(held: Embeddings, table: pd.DataFrame | None = None) -> Projection:
    """Principal components of the protein vectors, centred and not scaled.

    Signs are settled by each component's largest loading, which is positive, so that a map is the same every time.

    Parameters
    ----------
    held
        Embeddings; where they hold no protein level, a protein's vector is the mean over its rows.
    table
        Columns to join (`read_columns`), indexed by id; its ``PC1`` becomes ``PC1_table``.

    Raises
    ------
    StateshiftError
        Fewer than three proteins, vectors of several widths or not finite, all vectors alike, or a table that shares
        no id.
    """
    ids = list(held.proteins or held.residues)
    if len(ids) < 3:
        raise StateshiftError(f"{held.where} holds {len(ids)} proteins: a map needs three or more.")
    vectors = [held.protein(id) if held.proteins else held.residue(id).mean(axis=0) for id in ids]
    if len({len(vector) for vector in vectors}) > 1:
        raise StateshiftError(f"{held.where}: its vectors have several widths (stateshift protein inspect names them).")
    matrix = np.stack(vectors).astype(np.float64)
    broken = [id for id, row in zip(ids, matrix) if not np.isfinite(row).all()]
    if broken:
        raise StateshiftError(f"{held.where}: values that are not finite in {some(broken)}.")
    components, explained = principal_components(matrix)
    found = pd.DataFrame({"id": ids, **dict(zip(COMPONENTS, components.T))})
    notes = [] if held.proteins else ["There is no protein level: a protein's vector is the mean over its rows."]
    if table is not None:
        unknown = [id for id in ids if id not in table.index]
        if len(unknown) == len(ids):
            raise StateshiftError(
                f"The table's ids ({some(table.index, 3)}) and those of {held.where} ({some(ids, 3)}) share none."
            )
        if unknown:
            notes.append(f"{len(unknown):,} ids are not in the table: {some(unknown)}.")
        found = found.join(table, on="id", rsuffix=OF_TABLE)
    return Projection(found, explained, tuple(notes))


def principal_components(matrix: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Scores (N, 2) of rows (N, D) on the first two components, and the shares of variance that they explain.

    Examples
    --------
    >>> scores, explained = principal_components(np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> (scores + 0.0).round(6).tolist(), [round(share, 6) for share in explained]
    ([[-3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.9, 0.1])
    """
    from sklearn.decomposition import PCA

    if np.ptp(matrix, axis=0).max() == 0:
        raise StateshiftError("All vectors are alike: there is nothing to draw a map of.")
    pca = PCA(n_components=min(2, *matrix.shape), svd_solver="full").fit(matrix)
    loadings = pca.components_
    signs = np.sign(loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)])
    scores = (matrix - pca.mean_) @ (loadings * signs[:, None]).T
    shares = pca.explained_variance_ratio_
    if len(shares) < 2:
        return np.column_stack([scores, np.zeros(len(scores))]), (float(shares[0]), 0.0)
    return scores, (float(shares[0]), float(shares[1]))


def read_columns(path: str | Path, color: str | None) -> pd.DataFrame:
    """A csv or tsv, indexed by its column ``id``, or its first column.

    Raises
    ------
    StateshiftError
        The file can't be read, an id is there twice, or no column is called `color`.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such table.")
    try:
        with path.open(encoding="utf-8-sig") as handle:
            separator = "\t" if "\t" in handle.readline() else ","
        read = functools.partial(pd.read_csv, path, sep=separator, encoding="utf-8-sig")
        names = read(nrows=0).columns
        key = "id" if "id" in names else names[0]
        table = read(index_col=False)
        table[key] = read(index_col=False, usecols=[key], dtype=str, keep_default_na=False)[key]
    except (ValueError, OSError) as error:
        raise StateshiftError(
            f"{path} can't be read as a csv or tsv table: {' '.join(str(error).split())[:120]}."
        ) from error
    twice = table[key][table[key].duplicated()].unique()
    if len(twice):
        raise StateshiftError(f"{path}: column `{key}` names {some(twice)} more than once.")
    if color is not None and color not in table:
        raise StateshiftError(f"{path} has no column `{color}`{suggestion(color, table.columns)}.")
    return table.set_index(key)
