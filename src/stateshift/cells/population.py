"""The cells of an experiment: one matrix, one obs, one list of genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stateshift.cells.matrix.expression import Expression


@dataclass
class Cells:
    """Cells of one or more files on one gene axis.

    Parameters
    ----------
    X
        (n, G) float32, log1p, or an embedding; None where only the labels were read.
    obs
        n rows: ``dataset``, ``file``, ``context``, ``perturbation``, ``batch`` (strings).
    genes
        The G symbols, or names of an embedding's dimensions.
    control
        The control's name in ``obs["perturbation"]``.
    scale
        ``log1p_1e4``; ``log1p`` where the size factor isn't known; ``embedding``; "" without a matrix.
    simulated
        Whether the file says that its cells are simulated (``uns["stateshift"]["simulated"]``).
    every_gene
        The same cells with every gene of their files, where ``X`` here is an ``obsm`` array with a part of them
        or an embedding; else None.
    """

    X: Expression | None
    obs: pd.DataFrame
    genes: list[str]
    control: str
    scale: str
    simulated: bool = False
    every_gene: Cells | None = None

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def is_control(self) -> np.ndarray:
        """Mask (n,) of the control cells."""
        return (self.obs["perturbation"] == self.control).to_numpy()
