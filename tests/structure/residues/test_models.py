"""Residue rows: ESM2's own, geometry behind them, and a worker in another interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins import load_esm2
from stateshift.structure.parsing import read_chain
from stateshift.structure.residues import Entry, Esm2Residues, esm2_rows, read_residues, write_residues
from stateshift.structure.residues.esm3 import Esm3Residues


@pytest.fixture(scope="module")
def esm():
    return load_esm2()


def alone(esm, sequence: str) -> np.ndarray:
    """Rows by one pass over one sequence."""
    rows = esm.run(esm.tokens([sequence]), layers=(esm.layers,)).rows[esm.layers]
    return rows[0, 1:-1].float().numpy()


def test_rows_of_mixed_lengths_come_in_their_order(esm):
    sequences = ["MKVLA", "G" * 700, "W", "ACDEFGHIKL" * 9]
    for rows, sequence in zip(esm2_rows(esm, sequences), sequences):
        np.testing.assert_allclose(rows, alone(esm, sequence), atol=1e-5)


@pytest.mark.parametrize("length", [1022, 1023, 1300, 2500])
def test_a_residue_that_two_windows_hold_is_the_mean_of_both(esm, length):
    sequence = "".join(np.random.default_rng(length).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
    (rows,) = esm2_rows(esm, [sequence])
    assert rows.shape == (length, 128)
    first = alone(esm, sequence[:1022])
    np.testing.assert_allclose(rows[:766], first[:766], atol=1e-5)
    if length > 1022:
        second = alone(esm, sequence[766 : 766 + 1022])
        np.testing.assert_allclose(rows[766:1022], (first[766:] + second[:256]) / 2, atol=1e-5)


def test_geometry_follows_esm2_s_values(esm, shared_data):
    chain = read_chain(shared_data / "structure" / "cath" / "1irxA02.pdb", "A")
    model = Esm2Residues(esm, geometry=True)
    entry = Entry.of_chain("x", chain, geometry=True)
    (rows,) = model.rows([entry])
    assert rows.shape == (len(chain), model.width) == (43, 137)
    np.testing.assert_allclose(rows[:, 128:], entry.geometry * np.sqrt(128 / 9), rtol=1e-6)
    np.testing.assert_allclose(rows[:, :128], alone(esm, chain.sequence), atol=1e-5)
    with pytest.raises(StateshiftError, match="`y` has a sequence and no structure"):
        model.rows([Entry("y", "MKV")])


def test_tensors_of_the_rcsb_tool_are_read_with_their_bos_and_eos(shared_data):
    rows = read_residues(shared_data / "structure" / "esm3" / "1acb.A.pt")
    chain = read_chain(shared_data / "structure" / "esm3" / "1acb.cif", "A")
    assert rows.shape == (len(chain) + 2, 1536)
    assert 8000 < rows.norm(dim=1).median() < 10000


def test_tensors_go_to_disk_and_back_and_others_are_refused(tmp_path):
    rows = torch.randn(5, 8)
    assert torch.equal(read_residues(write_residues(rows, tmp_path / "a.pt")), rows)
    torch.save({"rows": rows}, tmp_path / "dict.pt")
    torch.save(torch.zeros(3), tmp_path / "flat.pt")
    torch.save(torch.full((2, 2), torch.nan), tmp_path / "nan.pt")
    torch.save(Path("x"), tmp_path / "object.pt")
    for name, told in [
        ("dict", "holds a dict"),
        ("flat", r"shape \(3,\)"),
        ("nan", "holds NaN"),
        ("object", "can be read safely"),
        ("b", r"no such residue tensor"),
    ]:
        with pytest.raises(StateshiftError, match=told):
            read_residues(tmp_path / f"{name}.pt")


FAKE_ESM3 = """
import torch
class ESM3:
    @classmethod
    def from_pretrained(cls, name, device):
        print("a library that prints on standard output")
        return cls()
    def float(self): return self
    def eval(self): return self
    def encode(self, protein):
        return protein
    def forward_and_sample(self, protein, config):
        assert config.return_per_residue_embeddings
        if protein.sequence == "FAIL":
            raise RuntimeError("no memory is left")
        class Output: pass
        out = Output()
        out.per_residue_embedding = torch.zeros(len(protein.sequence) + 2, 1536)
        # what was sent must be what is embedded: place the CA coordinates where the test looks
        out.per_residue_embedding[1:-1, :3] = protein.coordinates[:, 1]
        out.per_residue_embedding[1:-1, 3] = torch.isnan(protein.coordinates[:, 3:]).flatten(1).all(1).float()
        return out
"""
FAKE_API = """
class ESMProtein:
    def __init__(self, sequence, coordinates):
        self.sequence, self.coordinates = sequence, coordinates
class SamplingConfig:
    def __init__(self, return_per_residue_embeddings=False):
        self.return_per_residue_embeddings = return_per_residue_embeddings
"""


@pytest.fixture
def other_interpreter(tmp_path):
    """An interpreter whose `esm` is a stand-in for ESM3's package, as another environment's would be."""
    package = tmp_path / "site" / "esm"
    (package / "models").mkdir(parents=True)
    (package / "sdk").mkdir()
    for init in (package, package / "models", package / "sdk"):
        (init / "__init__.py").write_text("")
    (package / "models" / "esm3.py").write_text(FAKE_ESM3)
    (package / "sdk" / "api.py").write_text(FAKE_API)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "site"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def test_the_esm3_worker_is_given_the_backbone_and_gives_rows_with_bos_and_eos(other_interpreter, shared_data):
    chain = read_chain(shared_data / "structure" / "esm3" / "1acb.cif", "B")
    entry = Entry.of_chain("1acb.B", chain, geometry=False)
    with Esm3Residues(other_interpreter) as model:
        first, second = model.rows([entry, entry])
        assert first.shape == (65, 1536)
        np.testing.assert_allclose(first[1:-1, :3], chain.backbone[:, 1])
        assert (first[1:-1, 3] == 1).all()
        assert torch.equal(first, second)
        with pytest.raises(StateshiftError, match="could not embed `x`: RuntimeError: no memory is left"):
            model.rows([Entry("x", "FAIL", backbone=np.zeros((4, 3, 3), np.float32))])
        assert model.rows([entry])[0].shape == (65, 1536)


def test_an_interpreter_without_esm3_is_told_in_its_own_words(tmp_path):
    with pytest.raises(StateshiftError, match="can't be started"):
        Esm3Residues(tmp_path / "nothing")
    with pytest.raises(StateshiftError, match=r"ended: ModuleNotFoundError: No module named 'esm\.models"):
        Esm3Residues(sys.executable)
