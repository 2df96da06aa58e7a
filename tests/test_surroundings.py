"""What a process shares with other code is left as it was."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from stateshift.proteins import embed_sequences, load_esm2
from stateshift.surroundings import left_alone
from stateshift.training import train

SMALL = [
    "model=state_tiny", "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8",
    "data.batch_size=2", "training.max_steps=2", "training.val_every=2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def a_notebooks_own():
    """Double precision and another device by default, set back at the end."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def drawn():
    torch.set_default_device("cpu")
    values = random.random(), np.random.random(), torch.rand(1, dtype=torch.float32).item()
    torch.set_default_device("meta")
    return values


def seed_all():
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def test_defaults_and_generators_are_set_back_after_an_error_too(a_notebooks_own, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    held = []

    @left_alone()
    def failing():
        held.append(torch.ones(1))
        os.environ["PL_GLOBAL_SEED"] = os.environ["PL_SEED_WORKERS"] = "1"
        raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert (held[0].dtype, held[0].device.type) == (torch.float32, "cpu")
    after = torch.ones(1)
    assert (after.dtype, after.device.type) == (torch.float64, "meta")
    assert (os.environ["PL_GLOBAL_SEED"], "PL_SEED_WORKERS" in os.environ) == ("7", False)


def test_a_training_ends_alike_whatever_torchs_defaults_and_seeds_nothing(screen, a_notebooks_own):
    def trained(name):
        run = train(screen.toml, SMALL, pert_features=screen.table, output_dir=screen.folder, name=name)
        return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]

    seed_all()
    expected = drawn()
    seed_all()
    ours = trained("ours")
    assert drawn() == expected
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    as_always = trained("as_always")
    assert ours.keys() == as_always.keys()
    assert all(torch.equal(ours[name], as_always[name]) for name in ours)


def test_rows_of_proteins_are_alike_where_double_precision_is_the_default(a_notebooks_own):
    torch.set_default_device(None)

    def rows():
        ((_, found),) = embed_sequences(load_esm2(device="cpu"), {"a": "MEEPQSDPSV"})
        return found.residues

    in_double = rows()
    torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(in_double, rows())
