"""Residue rows of proteins, in batches within a budget, and one vector a protein."""
