"""Structures found by their vectors: indices, hits, graphs and clusters."""

from stateshift.structure.search.graph import cluster_index, similarity_graph
from stateshift.structure.search.index import build_index, search_index, update_index
from stateshift.structure.search.results import write_hits, write_page, write_rows

__all__ = [
    "build_index",
    "cluster_index",
    "search_index",
    "similarity_graph",
    "update_index",
    "write_hits",
    "write_page",
    "write_rows",
]
