"""Embeddings looked at: files of any maker, poolings, mutations, a map."""

from stateshift.proteins.explore.inspection import Inspection, inspect_proteins
from stateshift.proteins.explore.pooled_as import PoolingReport, pooling_of
from stateshift.proteins.explore.stored import Embeddings, read_embeddings

__all__ = ["Embeddings", "Inspection", "PoolingReport", "inspect_proteins", "pooling_of", "read_embeddings"]
