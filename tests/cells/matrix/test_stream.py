"""Cells written block after block: what AnnData itself would have written."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import random as random_sparse

from stateshift.cells.matrix.stream import CellStream, row_ends


@pytest.fixture
def cells() -> anndata.AnnData:
    X = random_sparse(70, 30, density=0.2, format="csr", dtype=np.float32, random_state=0)
    obs = pd.DataFrame({"batch": pd.Categorical(["a", "b"] * 35)}, index=[f"c{i}" for i in range(70)])
    var = pd.DataFrame(index=[f"G{i}" for i in range(30)])
    return anndata.AnnData(X, obs, var, uns={"about": {"seed": 3}})


def test_blocks_give_the_file_that_anndata_writes(cells, tmp_path):
    with CellStream(tmp_path / "a.h5ad", cells.obs, cells.var, cells.uns) as stream:
        for start, stop in ((0, 20), (20, 20), (20, 64), (64, 70)):
            stream.append(cells.X[start:stop])
    cells.write_h5ad(tmp_path / "b.h5ad")
    ours, theirs = (anndata.read_h5ad(tmp_path / name) for name in ("a.h5ad", "b.h5ad"))
    assert (ours.X != theirs.X).nnz == 0
    assert ours.X.indices.dtype == theirs.X.indices.dtype
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    assert ours.uns == theirs.uns
    with h5py.File(tmp_path / "a.h5ad") as a, h5py.File(tmp_path / "b.h5ad") as b:
        assert set(a) == set(b)
        assert dict(a["X"].attrs, shape=0) == dict(b["X"].attrs, shape=0)
        assert a["X"].attrs["shape"].tolist() == [70, 30]
        for name in ("data", "indices", "indptr"):
            assert dict(a["X"][name].attrs) == dict(b["X"][name].attrs)
            assert a["X"][name].dtype == b["X"][name].dtype


def test_a_slice_is_read_from_disk_alone(cells, tmp_path):
    with CellStream(tmp_path / "a.h5ad", cells.obs, cells.var, {}) as stream:
        stream.append(cells.X)
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert (backed.X[5:9] != cells.X[5:9]).nnz == 0
    backed.file.close()


def test_cells_left_out_are_noticed(cells, tmp_path):
    with (
        pytest.raises(RuntimeError, match="20 cells were appended to a stream of 70"),
        CellStream(tmp_path / "a.h5ad", cells.obs, cells.var, {}) as stream,
    ):
        stream.append(cells.X[:20])


def test_row_ends_are_wide_only_where_they_have_to_be():
    most = 2**31 - 1
    assert row_ends(np.array([most - 5, 5])).dtype == np.int32
    wide = row_ends(np.array([most, 5]))
    assert wide.dtype == np.int64
    assert wide.tolist() == [0, most, most + 5]
