"""Raw counts in; filtered, normalised, grouped cells with highly variable genes out."""

from stateshift.cells.prepare.prepare import Prepared, Step, prepare_cells

__all__ = ["Prepared", "Step", "prepare_cells"]
