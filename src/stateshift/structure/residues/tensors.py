"""Residue tensors on disk: one (L, D) tensor a chain, ours and those that the RCSB tool wrote."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stateshift.errors import StateshiftError, suggestion
from stateshift.files import read_tensors, written_beside


def read_residues(path: str | Path) -> Tensor:
    """Residue rows (L, D) float32 of a ``.pt`` file, without running pickled code.

    Rows stand as they were written: the RCSB tool's begin and end with ESM3's BOS and EOS.

    Raises
    ------
    StateshiftError
        The file is missing, damaged, holds anything but one 2-D tensor, or NaN.
    """
    path = Path(path)
    if not path.is_file():
        near = suggestion(path.name, [f.name for f in path.parent.glob("*.pt")]) if path.parent.is_dir() else ""
        raise StateshiftError(f"{path}: there is no such residue tensor{near}.")
    try:
        rows = read_tensors(path)
    except Exception as error:
        raise StateshiftError(
            f"{path} is no tensor that can be read safely: it is damaged or holds objects."
        ) from error
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not len(rows) or not rows.is_floating_point():
        shape = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"a {type(rows).__name__}"
        raise StateshiftError(f"{path} holds {shape}: residue rows are one tensor (residues, width).")
    if not torch.isfinite(rows).all():
        raise StateshiftError(f"{path} holds NaN or infinity.")
    return rows.float()


def residue_files(folder: str | Path) -> list[Path]:
    """The residue tensors of a folder by name, without the hidden parts that a killed run may leave.

    Raises
    ------
    StateshiftError
        There are none.
    """
    files = sorted(file for file in Path(folder).glob("*.pt") if not file.name.startswith("."))
    if not files:
        raise StateshiftError(f"{folder} holds no residue tensors (.pt).")
    return files


def write_residues(rows: Tensor, path: str | Path, overwrite: bool = False) -> Path:
    """Write residue rows (L, D) as `read_residues` takes them."""
    with written_beside(path, overwrite) as part:
        torch.save(rows.detach().cpu().clone(), part)
    return Path(path)
