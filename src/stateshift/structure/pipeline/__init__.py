"""Folders, tables and FASTA files of structures into tensors and vectors on disk."""

from stateshift.structure.pipeline.commands import Models, Stage, embed, embed_complete
from stateshift.structure.pipeline.loading import Reading
from stateshift.structure.pipeline.record import Output, Summary
from stateshift.structure.pipeline.run import Machine
from stateshift.structure.pipeline.tables import read_vectors

__all__ = ["Machine", "Models", "Output", "Reading", "Stage", "Summary", "embed", "embed_complete", "read_vectors"]
