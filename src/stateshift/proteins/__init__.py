"""Protein sequences in, protein embeddings out."""

from stateshift.proteins.embedding.embed import Rows, embed_proteins, embed_sequences
from stateshift.proteins.embedding.pooling import POOLINGS, pool
from stateshift.proteins.esm2.models import ProteinModel, load_esm2
from stateshift.proteins.fasta import Protein, read_fasta, sequences_by_id
from stateshift.proteins.store.fill import Recipe, fill_store
from stateshift.proteins.store.reader import EmbeddingStore
from stateshift.proteins.store.writer import StoreWriter

__all__ = [
    "POOLINGS",
    "EmbeddingStore",
    "Protein",
    "ProteinModel",
    "Recipe",
    "Rows",
    "StoreWriter",
    "embed_proteins",
    "embed_sequences",
    "fill_store",
    "load_esm2",
    "pool",
    "read_fasta",
    "sequences_by_id",
]
