"""Two processes on one machine train as one does."""

import csv
import json
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
TWO = ["training.devices=2"]
SCRIPT = """
import json
import sys
from pathlib import Path
from stateshift.training import resume, train
toml, table, folder, asked = sys.argv[1:]
begun = set()
for name, words in json.loads(asked):
    if name in begun:
        resume(Path(folder) / name, words)
    else:
        train(toml, words, pert_features=table, output_dir=folder, name=name)
    begun.add(name)
"""


def columns(run, *names):
    with open(run / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    return np.array([[float(row[name]) for name in names] for row in rows[1:]])


def weights(run, name):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def in_two(screen):
    def start(*asked):
        """Train each run of (name, words), or go on with it, one after the other."""
        script = screen.folder / "two.py"
        script.write_text(SCRIPT)
        taken = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
        environment = {k: v for k, v in os.environ.items() if k not in taken}
        arguments = [screen.toml, screen.table, screen.folder, json.dumps(asked)]
        done = subprocess.run(
            [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return [screen.folder / name for name, _ in asked]

    return start


sums = pytest.mark.skipif(
    torch.__version__.startswith("2.7."), reason="torch 2.7 sums a model's parts on CPUs, which is refused"
)


@pytest.mark.parametrize("words", [[], pytest.param(["training.strategy=fsdp"], marks=sums)], ids=["ddp", "fsdp"])
def test_two_processes_follow_the_loss_of_one_with_the_same_batches_a_step(screen, in_two, words):
    one = train(
        screen.toml, [*SMALL, "training.accumulate=2"], pert_features=screen.table, output_dir=screen.folder, name="one"
    )
    (two,) = in_two(("two", [*SMALL, *TWO, *words]))
    names = ("step", "epoch", "train_loss", "train_energy", "val_loss", "val_pearson_delta")
    np.testing.assert_allclose(columns(two, *names), columns(one, *names), atol=1e-4)
    for name in ("last", "best"):
        a, b = weights(one, name), weights(two, name)
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], atol=1e-4, rtol=0)


@sums
def test_a_model_cut_up_among_processes_resumes_where_it_was(in_two):
    words = [*SMALL, *TWO, "training.strategy=fsdp", "training.val_every=3", "model.dropout=0.3"]
    halves, whole, _ = in_two(
        ("halves", [*words, "training.max_steps=3"]),
        ("whole", [*words, "training.max_steps=6"]),
        ("halves", ["training.max_steps=6"]),
    )
    names = ("step", "train_loss", "val_loss")
    np.testing.assert_allclose(columns(halves, *names), columns(whole, *names), rtol=1e-6)
    for key, value in weights(whole, "last").items():
        torch.testing.assert_close(weights(halves, "last")[key], value, atol=1e-6, rtol=0)


def test_two_processes_read_gene_names_and_train_esm_layers_as_one_does(screen, in_two, monkeypatch):
    from stateshift.features import create_features

    monkeypatch.setenv("STATESHIFT_CACHE", str(screen.folder / "cache"))
    genes = ("G1", "G2", "G3", "G4")
    fasta, listed = screen.folder / "human.fasta", screen.folder / "genes.txt"
    fasta.write_text("".join(f">{g} GN={g}\n{'MKTAYIAKQR'[i:] * 3}\n" for i, g in enumerate(genes)))
    listed.write_text("\n".join(genes))
    create_features(gene_list=listed, fasta=fasta, output=screen.table, overwrite=True)
    screen.toml.write_text(screen.toml.read_text() + f'[features]\nfasta = "{fasta}"\n')
    words = ["model=esm_state", "model.unfreeze_esm_layers=1", "training.esm_lr=1e-2"]
    one = train(
        screen.toml, [*SMALL, "training.accumulate=2", *words], pert_features=screen.table, output_dir=screen.folder,
        name="one",
    )  # fmt: skip
    (two,) = in_two(("two", [*SMALL, *TWO, *words]))
    names = ("step", "train_loss", "val_loss")
    np.testing.assert_allclose(columns(two, *names), columns(one, *names), atol=1e-4)
    a, b = weights(one, "last"), weights(two, "last")
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-3, rtol=0)
