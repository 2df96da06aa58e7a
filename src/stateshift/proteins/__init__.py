"""Protein sequences in, protein embeddings out."""

from stateshift.proteins.embed import Rows, embed_proteins, embed_sequences
from stateshift.proteins.esm2 import ProteinModel, load_esm2
from stateshift.proteins.fasta import Protein, read_fasta, sequences_by_id
from stateshift.proteins.fill import Recipe, fill_store
from stateshift.proteins.pooling import POOLINGS, pool
from stateshift.proteins.store import EmbeddingStore
from stateshift.proteins.store_writer import StoreWriter

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
