"""Gene names: lists of them, names of one gene, which protein stands for each, and why some have none."""

from stateshift.genes.coverage import GeneCoverage, proteins_of_genes
from stateshift.genes.lists import read_names
from stateshift.genes.names import GeneNames

__all__ = ["GeneCoverage", "GeneNames", "proteins_of_genes", "read_names"]
