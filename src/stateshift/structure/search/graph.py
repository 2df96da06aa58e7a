"""Which entries of an index are alike: a graph of neighbours, and its communities."""

from __future__ import annotations

from pathlib import Path

from stateshift.progress import track
from stateshift.vector_index import VectorIndex

BATCH = 1024


def similarity_graph(
    index: str | Path | VectorIndex, top_k: int = 20, threshold: float = 0.8
) -> list[tuple[str, str, float]]:
    """Edges between entries, each once: kept where either end has the other among its nearest.

    Parameters
    ----------
    index
        A folder, or one that is loaded.
    top_k
        Neighbours that an entry asks for; it may get more edges from entries that ask for it.
    threshold
        The least cosine.

    Returns
    -------
    list of tuple
        (first, second, cosine), by names within an edge and by first name among them.
    """
    read = index if isinstance(index, VectorIndex) else VectorIndex.load(index)
    names = list(read.row_of)
    edges: dict[tuple[str, str], float] = {}
    starts = range(0, len(names), BATCH)
    for start in track(starts, "Neighbours", total=len(starts)):
        asking = names[start : start + BATCH]
        for name, hits in zip(asking, read.search(read.vectors(asking), top_k + 1, threshold)):
            others = [hit for hit in hits if hit.name != name][:top_k]
            edges.update({(min(name, o.name), max(name, o.name)): o.score for o in others})
    return [(a, b, score) for (a, b), score in sorted(edges.items())]


def cluster_index(
    index: str | Path | VectorIndex, top_k: int = 20, threshold: float = 0.8, resolution: float = 1.0, seed: int = 0
) -> dict[str, int]:
    """Communities of the similarity graph by Louvain (Blondel et al. 2008), modularity weighted by cosine.

    Parameters
    ----------
    index, top_k, threshold
        As in `similarity_graph`.
    resolution
        Higher ones give smaller communities.
    seed
        Makes it repeatable.

    Returns
    -------
    dict
        Name → community; 0 is the largest, entries without an edge are communities of one.
    """
    from networkx import Graph
    from networkx.algorithms.community import louvain_communities

    read = index if isinstance(index, VectorIndex) else VectorIndex.load(index)
    graph = Graph()
    graph.add_nodes_from(read.row_of)
    graph.add_weighted_edges_from(similarity_graph(read, top_k, threshold))
    found = [sorted(names) for names in louvain_communities(graph, resolution=resolution, seed=seed)]
    rank = {name: i for i, names in enumerate(sorted(found, key=lambda names: (-len(names), names))) for name in names}
    return {name: rank[name] for name in read.row_of}
