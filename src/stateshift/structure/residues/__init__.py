"""Chains in, a row a residue out: ESM2, local geometry, ESM3 by a worker, tensors on disk."""

from stateshift.structure.residues.geometry import local_geometry
from stateshift.structure.residues.models import Entry, Esm2Residues, ResidueModel, esm2_rows
from stateshift.structure.residues.tensors import read_residues, residue_files, write_residues

__all__ = [
    "Entry",
    "Esm2Residues",
    "ResidueModel",
    "esm2_rows",
    "local_geometry",
    "read_residues",
    "residue_files",
    "write_residues",
]
