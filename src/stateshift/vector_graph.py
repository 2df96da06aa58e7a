"""Graphs of neighbours (HNSW, Malkov & Yashunin 2018) over vectors: what one has to compare, and whether it pays."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stateshift.errors import StateshiftError

if TYPE_CHECKING:
    import faiss

logger = logging.getLogger(__name__)

LINKS = 32
EF_CONSTRUCTION = 80
RECALL = 0.95
NEAREST = 10
QUERIES = 100
PILOT = 5_000
"""Vectors of the larger trial graph; the smaller has a quarter of them."""
WORTH = 0.25
"""The largest share of all vectors that a graph may compare. Out of order a comparison takes twice as long as in
a sweep, and a graph takes minutes to hours to build."""
LEAST_EF, STEP = 16, 1.25


class Effort(NamedTuple):
    """What a graph has to do for its recall: efSearch, vectors compared a query, and the recall@10 it then has."""

    ef: int
    compared: float
    recall: float


def faiss_module():
    """faiss, or a sentence that says how to install it."""
    try:
        import faiss
    except ImportError as error:
        raise StateshiftError(
            "Searching vectors needs faiss: install it with `pip install 'stateshift[structure]'`."
        ) from error
    return faiss


def empty_graph(width: int) -> faiss.IndexHNSWFlat:
    """A graph without vectors, for inner products."""
    faiss = faiss_module()
    graph = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    return graph


def stored_vectors(graph: faiss.IndexHNSWFlat) -> faiss.IndexFlatIP:
    """The flat index that a graph keeps its vectors in; it lives as long as the graph."""
    return faiss_module().downcast_index(graph.storage)


def effort(graph: faiss.IndexHNSWFlat, queries: np.ndarray, most: float = 1.0) -> Effort:
    """The least effort that finds `RECALL` of the ten nearest of queries (Q, D), or the first that passes `most`.

    A found vector counts by its score, so that copies of one vector stand for each other. `most` is a share of all vectors, of those compared.
    """
    faiss = faiss_module()
    stats = faiss.cvar.hnsw_stats
    nearest = min(NEAREST, graph.ntotal)
    least = stored_vectors(graph).search(queries, nearest)[0][:, -1:] - 1e-6
    ef = LEAST_EF
    while True:
        stats.reset()
        scores, _ = graph.search(queries, nearest, params=faiss.SearchParametersHNSW(efSearch=ef))
        found = Effort(ef, stats.ndis / len(queries), float((scores >= least).mean()))
        if found.recall >= RECALL or ef >= graph.ntotal or found.compared > most * graph.ntotal:
            return found
        ef = math.ceil(ef * STEP)


def share_compared(sample: np.ndarray, count: int) -> float:
    """The share of `count` vectors that a graph of them would compare a query, from graphs of a sample.

    The vectors compared for `RECALL` grow as a power of their number: its exponent is that between a graph of the
    sample and one of a quarter of it. Vectors without any structure give nearly 1.

    Parameters
    ----------
    sample
        Normalised vectors (N, D) in random order, the first `QUERIES` of which ask the others.
    count
        Of all.
    """
    queries, others = sample[:QUERIES], sample[QUERIES:]
    sizes = len(others) // 4, len(others)
    compared = []
    for size in sizes:
        graph = empty_graph(sample.shape[1])
        graph.add(others[:size])
        compared.append(effort(graph, queries).compared)
    exponent = math.log(compared[1] / compared[0]) / math.log(sizes[1] / sizes[0])
    return min(compared[1] * (count / sizes[1]) ** min(max(exponent, 0.0), 1.0) / count, 1.0)
