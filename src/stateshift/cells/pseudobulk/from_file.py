"""Effects of an experiment or of one file of cells, written as AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stateshift.cells.checks.inspection import read_all
from stateshift.cells.loading import IN_MEMORY, Storage, read_cells
from stateshift.cells.population import Cells
from stateshift.cells.pseudobulk.estimate import estimate_effects
from stateshift.cells.pseudobulk.h5ad import refuse_other_suffix, write_effects
from stateshift.cells.pseudobulk.table import EffectTable
from stateshift.errors import StateshiftError, suggestion
from stateshift.files import refuse_output


def estimate_effects_file(
    source: str | Path,
    output: str | Path,
    *,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    storage: Storage = IN_MEMORY,
    overwrite: bool = False,
) -> EffectTable:
    """Estimate the effects of every perturbation in every context, and write them as h5ad.

    Parameters
    ----------
    source
        An experiment TOML, or an h5ad file or zarr store of cells.
    output
        The .h5ad file to write; `effects_to_anndata` says what it holds.
    split
        ``train``, ``val`` or ``test`` of the experiment. Default: all perturbed cells.
    columns
        As in the TOML's ``[columns]``, over which they win.
    seed
        Draws the halves that reliability is measured with.
    storage
        Where the matrices are kept.
    overwrite
        Whether an existing output is replaced.

    Raises
    ------
    StateshiftError
        The cells can't be used, the split holds none, or the output can't be written.
    """
    source, output = Path(source), Path(output)
    refuse_other_suffix(output)
    refuse_output(output, overwrite)
    if output.exists() and source.exists() and output.samefile(source):
        raise StateshiftError(f"{output} is both the cells and the --output: choose another output.")
    cells, keep = _read(source, split, columns, storage)
    table = estimate_effects(cells, keep, seed)
    if not len(table):
        raise StateshiftError(f"{source}: all cells are control (`{cells.control}`): there is no effect to estimate.")
    write_effects(table, output, overwrite)
    return table


def _read(
    source: Path, split: str | None, columns: Mapping[str, str] | None, storage: Storage
) -> tuple[Cells, np.ndarray | None]:
    """The cells, and the mask of those that the split holds."""
    if source.suffix.lower() != ".toml":
        if split is not None:
            raise StateshiftError(f"--split {split}: {source} has no splits, an experiment TOML has.")
        return read_cells(source, columns, storage=storage), None
    _, cells, of_cell = read_all(source, columns, storage=storage, every_gene=False)
    if split is None:
        return cells, None
    if not (of_cell == split).any():
        raise StateshiftError(
            f"{source}: no cell is in the split `{split}`{suggestion(split, set(of_cell.tolist()) - {''})}."
        )
    return cells, of_cell == split
