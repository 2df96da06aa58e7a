"""h5ad files that are sound HDF5 and no cells: parts of other kinds and shapes, numbers that float32 has not."""

import shutil

import h5py
import numpy as np
import pytest

from stateshift.cells import read_cells
from stateshift.errors import StateshiftError


def instead(name, content):
    """A part of the file replaced; its attributes stay."""

    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = content
        file[name].attrs.update(attributes)

    return change


def endless(name):
    """A part that declares more values than any memory holds, and stores none."""

    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, shape=(10**12,), dtype="i1", chunks=(2**20,)).attrs.update(attributes)

    return change


def told(name, key, value):
    """An attribute of a part replaced."""
    return lambda file: file[name].attrs.__setitem__(key, value)


def written(file, name, content):
    """A part of the file replaced or added, without attributes."""
    if name in file:
        del file[name]
    file[name] = content


def dense(file, values):
    """X as an array with that value everywhere."""
    n, genes = file["X"].attrs["shape"]
    del file["X"]
    file["X"] = np.full((n, genes), values)
    file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def absent(file):
    """X as anndata 0.12.0 writes None."""
    written(file, "X", h5py.Empty("f"))
    file["X"].attrs.update({"encoding-type": "null", "encoding-version": "0.1.0"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (instead("X/data", np.full(9, b"x")), "X is damaged: its data is that of no sparse matrix"),
        (instead("X/indices", np.full(9, 0.5)), "X is damaged: its indices is that of no sparse matrix"),
        (instead("X/indptr", np.zeros((2, 2), int)), "X is damaged: its indptr is that of no sparse matrix"),
        (instead("X/indptr", h5py.SoftLink("/obs")), "X is damaged: "),
        (told("X", "shape", [-1, 20]), "X is damaged: its shape is that of no sparse matrix"),
        (told("X", "shape", -1), "X is damaged: "),
        (absent, "is no AnnData file: it has no X"),
        (lambda file: dense(file, b"x"), "a dense, CSR or CSC matrix of numbers is needed"),
        (lambda file: dense(file, 1e300), "8,640 NaN or infinite values in 432 cells"),
        (instead("obs", np.arange(3)), "obs is no table"),
        (endless("obs/batch/codes"), r"obs column `batch` is of shape \(1000000000000,\) beside 432 names"),
        (
            lambda file: written(file, "uns/log1p", np.arange(3)),
            r'uns\["log1p"\] is not what scanpy or stateshift writes: delete it',
        ),
        (lambda file: written(file, "uns/log1p/base", "e"), r'uns\["log1p"\]\["base"\] is not what'),
        (lambda file: written(file, "uns/stateshift/scale", 3), r'uns\["stateshift"\]\["scale"\] is not what'),
        (lambda file: written(file, "uns/stateshift/columns", "x"), r'uns\["stateshift"\]\["columns"\] is not what'),
        (
            instead("var/_index", np.array(["", *map(str, range(19))], dtype=object)),
            "var_names are blank or hold letters that don't show: ''",
        ),
        (instead("var/_index", np.array([f"G\x1b[2J{i}" for i in range(20)], dtype=object)), "letters that don't show"),
    ],
)
def test_parts_of_another_kind_are_told_where_they_lie(lasting_screen, tmp_path, change, said):
    path = tmp_path / "cells.h5ad"
    shutil.copy(lasting_screen.cells, path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(StateshiftError, match=said) as caught:
        read_cells(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
