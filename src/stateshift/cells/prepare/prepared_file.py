"""The prepared file: cells gathered in the order in which they are read, normalised, written whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells.matrix.scale import SIZE_FACTOR
from stateshift.cells.prepare.quality import Quality
from stateshift.cells.prepare.raw import RawCells
from stateshift.errors import some
from stateshift.files import h5ad_bytes, plain_strings, reserve_room

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

HVG_KEY = "X_hvg"
CHUNK_VALUES = 4096
VAR_NAMES_BEFORE = "raw_var_name"


def grouped(labels: pd.DataFrame, keep: np.ndarray) -> np.ndarray:
    """Rows that are kept, by context, perturbation and batch; the order within a group stays.

    Examples
    --------
    >>> labels = pd.DataFrame({"context": list("bab"), "perturbation": list("xyx"), "batch": ["2", "1", "1"]})
    >>> grouped(labels, np.array([True, True, True])).tolist()
    [1, 2, 0]
    """
    rows = np.flatnonzero(keep)
    keys = [pd.factorize(labels[c].to_numpy()[rows], sort=True)[0] for c in ("batch", "perturbation", "context")]
    return rows[np.lexsort(keys)]


def gathered(tables: RawCells, X: csr_matrix, rows: np.ndarray, quality: Quality) -> AnnData:
    """Some cells of a raw file and the genes that pass, with their counts."""
    import anndata

    X = X[rows]
    if not quality.genes.all():
        X = X[:, np.flatnonzero(quality.genes)]
    var = _gene_table(tables)[quality.genes]
    obsm = {key: a.iloc[rows] if hasattr(a, "iloc") else a[rows] for key, a in tables.obsm.items()}
    if tables.left_behind:
        logger.info("not carried over: %s", some(tables.left_behind))
    metrics = quality.metrics.iloc[rows].reset_index(drop=True)
    metrics["total_counts"] = np.asarray(X.sum(axis=1)).ravel()
    return anndata.AnnData(X, obs=_obs(tables, rows, metrics), var=var, uns=dict(tables.uns), obsm=obsm)


def normalise(adata: AnnData) -> None:
    """Counts to a total of 1e4 a cell, then log1p, in place, by scanpy; ``uns["stateshift"]["scale"]`` says so."""
    import scanpy

    logger.info("normalising")
    scanpy.pp.normalize_total(adata, target_sum=SIZE_FACTOR)
    adata.uns.pop("log1p", None)
    scanpy.pp.log1p(adata)
    adata.uns["stateshift"] = {**adata.uns.get("stateshift", {}), "scale": "log1p_1e4"}


def write_prepared(adata: AnnData, path: Path, record: dict[str, Any]) -> None:
    """Add ``X_hvg`` of ``var["highly_variable"]``, and write the file; the AnnData is used up.

    ``uns["stateshift"]["embedding_genes"]["X_hvg"]`` names its columns in order.
    """
    import h5py
    from anndata.io import write_elem

    ours = {**adata.uns["stateshift"], "prepared": record}
    if record["hvg"]:
        mask = adata.var["highly_variable"].to_numpy()
        adata.obsm[HVG_KEY] = adata.X[:, np.flatnonzero(mask)].toarray()
        names = np.array(adata.var_names[mask], dtype=str)
        ours["embedding_genes"] = {**ours.get("embedding_genes", {}), HVG_KEY: names}
    adata.uns["stateshift"] = ours
    logger.info("writing %s cells × %s genes", *(f"{n:,}" for n in adata.shape))
    X, dense = adata.X, {key: a for key, a in adata.obsm.items() if isinstance(a, np.ndarray) and a.ndim == 2}
    reserve_room(path, h5ad_bytes(X) + sum(a.nbytes for a in dense.values()))
    adata.X = None
    for key in dense:
        del adata.obsm[key]
    with plain_strings():
        adata.write_h5ad(path, compression="lzf")
    with h5py.File(path, "a") as file:
        # chunks as anndata sets them would be unpacked whole for every row that cell-load reads
        values = min(CHUNK_VALUES, X.nnz, len(X.indptr))
        write_elem(file, "X", X, dataset_kwargs={"compression": "lzf", "chunks": (values,)})
        for key, array in dense.items():
            rows = min(max(1, CHUNK_VALUES // array.shape[1]), len(array))
            kwargs = {"compression": "lzf", "chunks": (rows, array.shape[1])}
            write_elem(file["obsm"], key, array, dataset_kwargs=kwargs)


def _gene_table(tables: RawCells) -> pd.DataFrame:
    """``var`` under the names that genes go by now: of genes that were summed, the first one's row."""
    first = ~pd.Index(tables.genes).duplicated()
    var = tables.var[first].copy()
    if list(var.index) != list(tables.genes[first]):
        var[VAR_NAMES_BEFORE] = var.index.astype(str)
    var.index = pd.Index(tables.genes[first].astype(str))
    return var


def _obs(tables: RawCells, rows: np.ndarray, metrics: pd.DataFrame) -> pd.DataFrame:
    """``obs`` as stored with QC metrics beside it, texts as categories."""
    obs = tables.obs.iloc[rows].copy()
    labels = [c for c in (tables.columns.perturbation, tables.columns.cell_type, tables.columns.batch) if c]
    for column in obs.columns:
        values = obs[column]
        if column in labels:
            obs[column] = values.astype(str).astype("category")
        elif isinstance(values.dtype, pd.CategoricalDtype):
            obs[column] = values.cat.remove_unused_categories()
        elif values.dtype == object or pd.api.types.is_string_dtype(values.dtype):
            obs[column] = values.where(values.isna(), values.astype(str)).astype("category")
    for column in metrics:
        if column in obs and not np.array_equal(obs[column], metrics[column]):
            kept_as = f"raw_{column}"
            while kept_as in obs:
                kept_as = f"raw_{kept_as}"
            obs[kept_as] = obs[column]
            logger.info("obs `%s` of the raw file is kept as `%s`", column, kept_as)
        obs[column] = metrics[column].to_numpy()
    return obs
