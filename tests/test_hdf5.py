"""HDF5 files that lead elsewhere, or nowhere, are refused before anything of them is read."""

import os

import h5py
import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.hdf5 import HEAP, open_hdf5


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/numbers"] = np.arange(6.0)
        file["texts"] = np.array(["a", "bc"] * 40, dtype=h5py.string_dtype())
        file["again"] = h5py.SoftLink("/group/numbers")
    return tmp_path / "x.h5"


def test_a_file_of_its_own_is_opened(path):
    with open_hdf5(path) as file:
        assert file["again"][:].tolist() == list(range(6))
        assert file["texts"].asstr()[1] == "bc"


def test_links_and_arrays_that_lie_in_other_files_are_refused(path, tmp_path):
    (tmp_path / "secret").write_bytes(b"password")
    with h5py.File(path, "a") as file:
        file["group/link"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("raw", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
        file.create_virtual_dataset("virtual", layout)
    with pytest.raises(StateshiftError, match="takes `group/link`, `raw`, `virtual` from other files"):
        open_hdf5(path)


def test_links_in_a_circle_are_gone_through_once_and_hide_nothing(path):
    with h5py.File(path, "a") as file:
        file["group/whole"] = file["/"]
        file["self"] = h5py.SoftLink("/self")
        deepest = file
        for _ in range(300):
            deepest = deepest.create_group("a")
    with open_hdf5(path) as file:
        assert file["group/whole/group/numbers"][2] == 2
    with h5py.File(path, "a") as file:
        file["a/" * 300 + "link"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(StateshiftError, match=r"takes `(a/){300}link` from other files"):
        open_hdf5(path)


def test_a_heap_that_hdf5_would_read_for_ever_is_refused(path):
    content = bytearray(path.read_bytes())
    start = content.index(HEAP)
    content[start + 16 : start + 64] = bytes(48)
    path.write_bytes(content)
    with pytest.raises(StateshiftError, match=r"x\.h5 is damaged: a heap of texts at byte [\d,]+ ends nowhere"):
        open_hdf5(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateshiftError, match="pipe is a pipe or a device, .*: name a file"):
        open_hdf5(tmp_path / "pipe")
