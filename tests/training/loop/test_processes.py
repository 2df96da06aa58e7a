"""Two processes on one machine train as one does."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from stateshift.training import train

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "model.dropout=0",
    "data.batch_size=2", "training.max_steps=8", "training.val_every=1", "training.lr=1e-2", "training.accelerator=cpu",
]  # fmt: skip
SCRIPT = """
import sys
from stateshift.training import train
toml, table, folder, name, *words = sys.argv[1:]
train(toml, words, pert_features=table, output_dir=folder, name=name)
"""


def columns(run, *names):
    with open(run / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    return np.array([[float(row[name]) for name in names] for row in rows[1:]])


@pytest.fixture
def in_two(screen):
    def start(name, *words):
        script = screen.folder / "two.py"
        script.write_text(SCRIPT)
        taken = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
        environment = {k: v for k, v in os.environ.items() if k not in taken}
        arguments = [screen.toml, screen.table, screen.folder, name, *SMALL, "training.devices=2", *words]
        done = subprocess.run(
            [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return screen.folder / name

    return start


def test_two_processes_follow_the_loss_of_one_with_the_same_batches_a_step(screen, in_two):
    one = train(
        screen.toml, [*SMALL, "training.accumulate=2"], pert_features=screen.table, output_dir=screen.folder, name="one"
    )
    two = in_two("two")
    names = ("step", "epoch", "train_loss", "train_energy", "val_loss", "val_pearson_delta")
    np.testing.assert_allclose(columns(two, *names), columns(one, *names), atol=1e-4)
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-4, rtol=0)
