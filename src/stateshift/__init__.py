"""stateshift predicts how a population of cells shifts when a gene is perturbed."""

__version__ = "0.1.0"
