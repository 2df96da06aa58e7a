"""Pseudobulk effects: what a perturbation did to the mean of a population."""

from stateshift.cells.pseudobulk.estimate import estimate_effects
from stateshift.cells.pseudobulk.from_file import estimate_effects_file
from stateshift.cells.pseudobulk.h5ad import effects_to_anndata, write_effects
from stateshift.cells.pseudobulk.published.effects import read_effects
from stateshift.cells.pseudobulk.reliability import second_experiment, spearman_brown
from stateshift.cells.pseudobulk.shrinkage import shrink_effects
from stateshift.cells.pseudobulk.summary import context_summary, strongest_effects
from stateshift.cells.pseudobulk.table import EffectTable

__all__ = [
    "EffectTable",
    "context_summary",
    "effects_to_anndata",
    "estimate_effects",
    "estimate_effects_file",
    "read_effects",
    "second_experiment",
    "shrink_effects",
    "spearman_brown",
    "strongest_effects",
    "write_effects",
]
