"""Groups that are too small to say much, and cells without a control of their batch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stateshift.cells.population import Cells
from stateshift.errors import some

FEW = 10
"""Cells; a mean effect of fewer is mostly noise."""


def group_notes(groups: pd.DataFrame, cells: Cells, split: np.ndarray) -> list[str]:
    """Groups of fewer than ten cells, and batches without controls.

    Both are allowed: small groups are served as they are, and cells of a batch without controls are matched
    with controls of their file and cell type.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    cells, split
        The cells and the split of each.
    """
    return [*_small_groups(groups), *_unmatched(cells, split)]


def _small_groups(groups: pd.DataFrame) -> list[str]:
    notes = []
    for name in ("train", "val", "test", "control"):
        few = groups[(groups["split"] == name) & (groups["cells"] < FEW)].sort_values("cells", kind="stable")
        if len(few):
            shown = [f"{g.perturbation} in {g.context} ({g.cells})" for g in few.itertuples()]
            total = int((groups["split"] == name).sum())
            notes.append(f"{name}: {len(few):,} of {total:,} groups hold fewer than {FEW} cells: {some(shown, 5)}.")
    return notes


def _unmatched(cells: Cells, split: np.ndarray) -> list[str]:
    """A note on the perturbed cells whose batch holds no control of their file and cell type."""
    labels = cells.obs[["file", "context", "batch"]]
    batch = labels.groupby(list(labels), sort=False, observed=True).ngroup().to_numpy()
    has_control = np.isin(batch, batch[cells.is_control])
    alone = np.isin(split, ("train", "val", "test")) & ~has_control
    if not alone.any():
        return []
    batches = labels[alone].drop_duplicates()
    shown = [f"{b.batch or 'no batch'} ({b.context} in {b.file})" for b in batches.itertuples()]
    return [
        f"{alone.sum():,} perturbed cells are in {len(batches):,} batches without controls, and are matched with controls "
        f"of their file and cell type: {some(shown, 4)}."
    ]
