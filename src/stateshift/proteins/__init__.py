"""Protein sequences in, protein embeddings out."""

from stateshift.proteins.embed import embed_proteins
from stateshift.proteins.esm2 import ProteinModel, load_esm2
from stateshift.proteins.fasta import Protein, read_fasta

__all__ = ["Protein", "ProteinModel", "embed_proteins", "load_esm2", "read_fasta"]
