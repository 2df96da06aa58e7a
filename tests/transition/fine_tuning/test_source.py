"""What can be fine-tuned is read with its names, and everything else is refused in a sentence."""

import shutil
from pathlib import Path

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.transition.arc.run import import_arc_run
from stateshift.transition.fine_tuning.source import read_source

ARC = Path(__file__).parents[2] / "assets" / "transition" / "arc_run"


@pytest.fixture
def arc(tmp_path) -> Path:
    return Path(shutil.copytree(ARC, tmp_path / "arc"))


@pytest.fixture
def ours(tmp_path) -> Path:
    return import_arc_run(ARC, tmp_path / "ours")


@pytest.mark.parametrize("inside", ["", "checkpoints/final.ckpt"])
def test_a_run_of_arc_state_and_its_checkpoint_say_the_same(arc, inside):
    source = read_source(arc / inside)
    assert source.genes == [f"GENE{i}" for i in range(12)]
    assert source.batches == ["b0", "b1"]
    assert source.features.genes == ["G1", "G2", "G3"]
    assert (source.name, source.scale, source.model.config.hidden) == ("arc_state", "log1p", 8)


@pytest.mark.parametrize("inside", ["", "checkpoints/best.ckpt"])
def test_a_run_of_ours_and_its_checkpoint_hold_the_same_weights(arc, ours, inside):
    source, theirs = read_source(ours / inside), read_source(arc)
    assert (source.genes, source.batches) == (theirs.genes, theirs.batches)
    weights = source.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in theirs.model.state_dict().items())
    assert source.model.config == theirs.model.config


def test_a_checkpoint_of_arc_state_alone_names_what_it_can(arc, tmp_path):
    alone = tmp_path / "alone.ckpt"
    stored = torch.load(arc / "checkpoints" / "final.ckpt", weights_only=True)
    stored["hyper_parameters"].pop("gene_names", None)
    torch.save(stored, alone)
    source = read_source(alone)
    assert (source.genes, source.batches, source.features) == (None, None, None)
    assert source.model.config.genes == 12


def test_a_source_that_is_not_there_is_told_with_its_near_miss(ours):
    with pytest.raises(StateshiftError, match=r"there is no such run or checkpoint \(did you mean `ours`\?\)"):
        read_source(ours.with_name("our"))
    with pytest.raises(StateshiftError, match=r"did you mean `best.ckpt`"):
        read_source(ours / "checkpoints" / "bets.ckpt")
    with pytest.raises(StateshiftError, match=r"there is no such run"):
        read_source(ours / "nowhere" / "at" / "all")


def test_what_is_no_run_is_told(arc, ours, tmp_path):
    with pytest.raises(StateshiftError, match="is no run directory and no .ckpt file"):
        read_source(ours / "genes.txt")
    with pytest.raises(StateshiftError, match="is a run neither of stateshift"):
        read_source(tmp_path)
    copied = shutil.copy(ours / "checkpoints" / "best.ckpt", tmp_path / "best.ckpt")
    with pytest.raises(StateshiftError, match="is a checkpoint of stateshift away from its run"):
        read_source(copied)


@pytest.mark.parametrize("of", ["arc", "ours"])
def test_a_truncated_checkpoint_is_named(arc, ours, of):
    path = next(({"arc": arc, "ours": ours}[of] / "checkpoints").glob("*.ckpt"))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(StateshiftError, match=rf"{path.name} (is cut short|can't be read)"):
        read_source(path)


def test_adapters_apart_from_their_weights_are_refused(ours):
    last = ours / "checkpoints" / "last.ckpt"
    stored = torch.load(ours / "checkpoints" / "best.ckpt", weights_only=True)
    stored["state_dict"]["model.transformer_backbone.layers.0.self_attn.q_proj.lora_A.default.weight"] = torch.ones(1)
    torch.save(stored, last)
    with pytest.raises(
        StateshiftError, match=r"last.ckpt holds LoRA's adapters apart from the weights: take .*best.ckpt"
    ):
        read_source(last)
