"""mmCIF and PDB files in, protein chains and biological assemblies out."""

from stateshift.structure.parsing.assemblies import Assembly, read_assemblies
from stateshift.structure.parsing.chains import Chain, read_chain, read_chains
from stateshift.structure.parsing.files import read_structure, structure_stem

__all__ = ["Assembly", "Chain", "read_assemblies", "read_chain", "read_chains", "read_structure", "structure_stem"]
