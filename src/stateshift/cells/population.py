"""The cells of an experiment in memory: one matrix, one obs, one list of genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix


@dataclass
class Cells:
    """Cells of one or more files on one gene axis.

    Parameters
    ----------
    X
        CSR (n, G) float32, log1p.
    obs
        n rows: ``dataset``, ``file``, ``context``, ``perturbation``, ``batch`` (strings).
    genes
        The G symbols.
    control
        The control's name in ``obs["perturbation"]``.
    scale
        ``log1p_1e4``, or ``log1p`` where the size factor isn't known.
    simulated
        Whether the file says that its cells are simulated (``uns["stateshift"]["simulated"]``).
    """

    X: csr_matrix
    obs: pd.DataFrame
    genes: list[str]
    control: str
    scale: str
    simulated: bool = False

    def __len__(self) -> int:
        return self.X.shape[0]

    @property
    def is_control(self) -> np.ndarray:
        """Mask (n,) of the control cells."""
        return (self.obs["perturbation"] == self.control).to_numpy()
