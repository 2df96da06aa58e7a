"""A network as features: genes with the same neighbours point the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.directions import unit_rows
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import read_csv, sha256

READS = "an edge list (.tsv or .csv: gene, gene and perhaps a weight)"


def genes_without_edge(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that no edge joins to another."""
    path = request.file(READS)
    genes = np.unique(np.concatenate(read_edges(path)[:2])).tolist()
    return request.matched(genes, f"in no edge of {path.name}", request.names())[1]


@reads("lookup", "width", "aliases", lacking=genes_without_edge)
def network_features(request: FeatureRequest) -> FeatureTable:
    """A spectral embedding of an edge list (STRING, BioGRID, CORUM pairs …) in ``request.width`` columns.

    With the symmetric weights A, a loop of the largest weight added to each gene so that neighbours resemble each
    other, and the degrees D, the vectors are the leading eigenvectors of D^-½ A D^-½ times their eigenvalues: two
    steps of a random walk, in the sense of diffusion maps (Coifman & Lafon, Appl. Comput. Harmon. Anal. 21, 5,
    2006). Rows have length one. An edge that is listed several times, in whichever direction, counts once, by its
    largest weight.

    Raises
    ------
    StateshiftError
        No edge list is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    from scipy.sparse import coo_matrix, diags, identity

    path = request.file(READS)
    first, second, weight = read_edges(path)
    genes, code = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = code[: len(first)], code[len(first) :]
    # the heaviest first, of which `np.unique` takes the first
    order = np.argsort(-weight, kind="stable")
    _, first_of_pair = np.unique((np.minimum(a, b) * len(genes) + np.maximum(a, b))[order], return_index=True)
    kept = order[first_of_pair]
    whole = coo_matrix((weight[kept], (a[kept], b[kept])), shape=(len(genes), len(genes))).tocsr()
    whole = whole + whole.T
    whole = whole + whole.max() * identity(len(genes))
    scaled = diags(1 / np.sqrt(np.asarray(whole.sum(axis=1)).ravel()))
    vectors = _leading_eigenvectors(scaled @ whole @ scaled, request.width)
    provenance = {
        "source": "network",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "edges": len(kept),
        "reduction": "eigenvectors of the normalised adjacency times eigenvalues, rows of length one",
        "comparable_rows": True,
    }
    return request.picked(list(genes), vectors, provenance, f"in no edge of {path.name}", request.names())


def read_edges(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both ends and the weight (1 where no third column holds one) of edges; the first line is a header.

    Raises
    ------
    StateshiftError
        The file is missing or no table.
    InputProblems
        Weights that are no positive numbers, empty names, or nothing but loops.
    """
    import pandas as pd

    separator = {".csv": ","}.get(path.suffix.lower(), "\t")
    frame = read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    if frame.shape[1] < 2 or not len(frame):
        raise StateshiftError(f"{path} is no edge list: a header, then two genes a line and perhaps a weight.")
    ends = frame.iloc[:, :2].apply(lambda column: column.str.strip())
    weight = pd.to_numeric(frame.iloc[:, 2], errors="coerce") if frame.shape[1] > 2 else pd.Series(1.0, frame.index)
    problems = []
    bad = ~(np.isfinite(weight) & (weight > 0))
    if bad.any():
        lines = [f"{i + 2}" for i in np.flatnonzero(bad)]
        problems.append(f"`{frame.columns[2]}` is no positive number in lines {some(lines)}.")
    empty = (ends == "").any(axis=1)
    if empty.any():
        problems.append(f"a gene's name is empty in lines {some(f'{i + 2}' for i in np.flatnonzero(empty))}.")
    apart = (ends.iloc[:, 0] != ends.iloc[:, 1]).to_numpy()
    if not apart.any():
        problems.append("no edge joins two genes.")
    if problems:
        raise InputProblems(str(path), problems)
    ends = ends.to_numpy(dtype=str)[apart]
    return ends[:, 0], ends[:, 1], weight.to_numpy(dtype=np.float64)[apart]


def _leading_eigenvectors(matrix: object, width: int) -> np.ndarray:
    from scipy.sparse.linalg import eigsh

    n = matrix.shape[0]
    if width >= n - 1 or n <= 400:
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:
        values, vectors = eigsh(matrix, k=width, which="LA", v0=np.ones(n))
    order = np.argsort(-values)[:width]
    order = order[values[order] > 1e-9]
    return unit_rows(vectors[:, order] * values[order]).astype(np.float32)
