"""Damaged files of every format end in a sentence or a right result; what nothing can tell is named in docs/reliability.md."""

import numpy as np
import pytest

FORMATS = {
    "h5ad": 60, "h5ad, gzip": 60, "h5 store of embeddings": 30, "TOML": 60, "FASTA": 40, "FASTA, gzip": 20,
    "pt, features": 60, "pt, residues": 20, "pt, ESM2": 10, "npz": 20, "csv": 20, "pickle": 20, "mmCIF": 60, "PDB": 20,
}  # fmt: skip
"""Files damaged in this test; scripts/bench/faults.py reads 500 of each."""
HOLD_CHECKSUMS = ("pt, features", "pt, residues", "pt, ESM2", "npz", "h5 store of embeddings", "FASTA, gzip")


@pytest.fixture(scope="module")
def files(faults, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    return faults.make_files(folder, faults.make_screen(folder)["cells.h5ad"])


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_a_sentence_or_a_result(faults, files, name):
    if name not in files:
        pytest.skip("structures need the extra `structure`")
    path, read = files[name]
    found = faults.outcomes(read, path, FORMATS[name])
    assert len(found) == FORMATS[name]
    assert [one for one in found if one.said not in ("sentence", "same", "changed")] == []
    assert sum(one.said == "sentence" for one in found) > len(found) / 4
    if name in HOLD_CHECKSUMS:
        assert [one for one in found if one.said == "changed"] == []


def test_the_sentence_is_one_and_names_the_file(faults, files):
    for name in ("h5ad", "pt, features", "npz", "pickle"):
        path, read = files[name]
        for one in faults.outcomes(read, path, 5, seed=1):
            if one.said == "sentence":
                assert path.name in one.detail
                assert "\n" not in one.detail


def test_every_kind_of_damage_changes_a_file(faults):
    content, rng = bytes(range(256)) * 40, np.random.default_rng(0)
    made = [faults.damaged(content, rng) for _ in range(200)]
    assert {kind for kind, changed in made if changed != content} == set(faults.KINDS)
