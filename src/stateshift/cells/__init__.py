"""AnnData and one experiment TOML in; checked splits, cell sets and pseudobulk effects out."""

from stateshift.cells.checks.inspection import read_all
from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment, read_experiment
from stateshift.cells.loading import Storage, load_cells, perturbed_genes, read_cells
from stateshift.cells.matrix.expression import Expression
from stateshift.cells.population import Cells
from stateshift.cells.pseudobulk import (
    EffectTable,
    effects_to_anndata,
    estimate_effects,
    estimate_effects_file,
    read_effects,
    shrink_effects,
    write_effects,
)
from stateshift.cells.regimes import REGIMES, regime_counts, regimes_of
from stateshift.cells.splits import assign_splits, held_out_genes, seen_elsewhere, split_counts

__all__ = [
    "REGIMES",
    "Cells",
    "Columns",
    "EffectTable",
    "Experiment",
    "Expression",
    "Storage",
    "assign_splits",
    "effects_to_anndata",
    "estimate_effects",
    "estimate_effects_file",
    "find_columns",
    "held_out_genes",
    "load_cells",
    "perturbed_genes",
    "read_all",
    "read_cells",
    "read_effects",
    "read_experiment",
    "regime_counts",
    "regimes_of",
    "seen_elsewhere",
    "shrink_effects",
    "split_counts",
    "write_effects",
]
