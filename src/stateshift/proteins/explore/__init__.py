"""Embeddings looked at: files of any maker, poolings, mutants, a map; and a toy set to learn on."""

from stateshift.proteins.explore.projection import Projection, project
from stateshift.proteins.explore.reports import map_proteins, mutations, scan
from stateshift.proteins.explore.stored import Embeddings, inspect_proteins, pooling_of, read_embeddings

__all__ = [
    "Embeddings",
    "Projection",
    "inspect_proteins",
    "map_proteins",
    "mutations",
    "pooling_of",
    "project",
    "read_embeddings",
    "scan",
]
