"""The tar of a submission, held to Python's own `tarfile` byte by byte."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import zstandard

from stateshift.challenge.export import package


def by_tarfile(members):
    """The archive that `tarfile` makes of the same members."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return held.getvalue()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 10_240, 300_000])
def test_the_tar_is_the_one_that_python_makes_whatever_the_sizes(tmp_path, size):
    plain = np.random.default_rng(0).bytes(size)
    (tmp_path / "cells").write_bytes(plain)
    small = {"meta.json": b"{}" * (size % 700), "second": b"x"}
    package.write_package(tmp_path / "o.vcc", tmp_path / "cells", "cells.zst", 3, small, {"mark": b"m" * 512})
    with tarfile.open(tmp_path / "o.vcc", "r:") as tar:
        packed = tar.extractfile("cells.zst").read()
        assert [(m.mode, m.mtime, m.uid, m.uname) for m in tar.getmembers()] == [(0o644, 0, 0, "")] * 4
    assert zstandard.ZstdDecompressor().decompress(packed, max_output_size=max(size, 1)) == plain
    assert (tmp_path / "o.vcc").read_bytes() == by_tarfile({**small, "cells.zst": packed, "mark": b"m" * 512})


def test_a_file_that_is_read_in_several_pieces_is_packed_whole(tmp_path, monkeypatch):
    (tmp_path / "cells").write_bytes(bytes(range(256)) * 40)
    package.write_package(tmp_path / "one", tmp_path / "cells", "c.zst", 1, {}, {})
    monkeypatch.setattr(package, "COPY_AT_ONCE", 1000)
    package.write_package(tmp_path / "many", tmp_path / "cells", "c.zst", 1, {}, {})
    plain = []
    for name in ("one", "many"):
        with tarfile.open(tmp_path / name) as tar:
            packed = tar.extractfile("c.zst").read()
        assert zstandard.frame_content_size(packed) == 10_240  # the header tells it: readers reserve as much
        plain.append(zstandard.ZstdDecompressor().decompress(packed))
    assert plain == [bytes(range(256)) * 40] * 2
