"""Files of embeddings, whoever made them: opened, looked at, their pooling recognised."""

from stateshift.proteins.explore.stored.embeddings import Embeddings, read_embeddings
from stateshift.proteins.explore.stored.inspection import Inspection, inspect_proteins
from stateshift.proteins.explore.stored.pooled_as import PoolingReport, pooling_of

__all__ = ["Embeddings", "Inspection", "PoolingReport", "inspect_proteins", "pooling_of", "read_embeddings"]
