"""An h5ad file of known size, its cells written a block at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

LIMIT_OF_INT32 = 2**31 - 1


def stream_h5ad(path: Path, obs: pd.DataFrame, genes: list[str], n_values: int, blocks: Iterable[csr_matrix]) -> None:
    """Write an AnnData whose ``X`` never lies in memory.

    The file carries no time, so that the same cells give the same bytes.

    Parameters
    ----------
    path
        The file to write.
    obs
        Of the n cells, in the order of the blocks.
    genes
        The G names of ``var``.
    n_values
        The values of all blocks together.
    blocks
        CSR float32 (k, G), which together are the n cells.
    """
    import anndata as ad
    import h5py

    ad.AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(genes))).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        X.attrs["shape"] = np.array([len(obs), len(genes)], np.int64)
        data = X.create_dataset("data", (n_values,), np.float32)
        indices = X.create_dataset("indices", (n_values,), np.int32)
        starts, cells, done = np.zeros(len(obs) + 1, np.int64), 0, 0
        for block in blocks:
            data[done : done + block.nnz] = block.data
            indices[done : done + block.nnz] = block.indices
            starts[cells + 1 : cells + 1 + block.shape[0]] = done + block.indptr[1:]
            cells, done = cells + block.shape[0], done + block.nnz
        if (cells, done) != (len(obs), n_values):
            raise RuntimeError(f"{cells} cells and {done} values came, {len(obs)} and {n_values} were announced")
        X.create_dataset("indptr", data=starts if n_values > LIMIT_OF_INT32 else starts.astype(np.int32))


def h5ad_size(n_cells: int, n_genes: int, n_values: int) -> int:
    """About the bytes of such a file."""
    return 8 * n_values + 100 * (n_cells + n_genes) + 2**20
