"""Aggregators read from disk: ours, the published layout, and files that are neither."""

from __future__ import annotations

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.structure.aggregator import (
    Aggregator,
    AggregatorShape,
    TrainedAggregator,
    aggregate,
    load_aggregator,
    save_aggregator,
)
from stateshift.structure.aggregator.checkpoint import FORMAT
from stateshift.structure.aggregator.model import PUBLISHED

SMALL = AggregatorShape(width=20, hidden=64, heads=1, feedforward=128, layers=2, blocks=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Aggregator(SMALL).eval()


def test_ours_comes_back_with_what_its_rows_have_to_be(model, tmp_path):
    saved = TrainedAggregator(model, {"model": "demo", "geometry": True}, {"pairs": 12})
    path = save_aggregator(saved, tmp_path / "a.pt")
    read = load_aggregator(path)
    rows = [torch.randn(9, 20)]
    assert torch.equal(aggregate(read.model, rows), aggregate(model, rows))
    assert (read.geometry, read.training, len(read.sha256)) == (True, {"pairs": 12}, 64)
    with pytest.raises(StateshiftError, match="exists already"):
        save_aggregator(saved, path)


def test_a_random_state_dict_of_the_published_size_loads_strictly(tmp_path):
    with torch.device("meta"):
        names = Aggregator(PUBLISHED).state_dict()
    state = {name: torch.zeros(1).expand(value.shape) for name, value in names.items()}
    torch.save(state, tmp_path / "published.pt")
    read = load_aggregator(tmp_path / "published.pt")
    assert read.model.shape == PUBLISHED
    assert not read.geometry
    assert sum(p.numel() for p in read.model.parameters()) == 172_442_112


def test_a_flat_state_dict_of_another_size_is_measured_by_its_tensors(model, tmp_path):
    torch.save({f"model.{name}": value for name, value in model.state_dict().items()}, tmp_path / "flat.pt")
    read = load_aggregator(tmp_path / "flat.pt")
    assert read.model.shape == SMALL
    rows = [torch.randn(9, 20)]
    assert torch.equal(aggregate(read.model, rows), aggregate(model, rows))


def lacking(state):
    del state["embedding.block0.block.2.bias"]


def added(state):
    state["extra"] = torch.zeros(1)


def misshapen(state):
    state["transformer.layers.1.norm2.bias"] = torch.zeros(3)


def broken(state):
    state["embedding.linear.bias"][3] = torch.nan


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lacking, "lacks embedding.block0.block.2.bias"),
        (added, "also holds extra"),
        (misshapen, "has other shapes in transformer.layers.1.norm2.bias"),
        (broken, "holds NaN or infinity in embedding.linear.bias"),
    ],
)
def test_a_state_dict_that_is_not_whole_is_told_where(model, tmp_path, damage, told):
    state = model.state_dict()
    damage(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(StateshiftError, match=told):
        load_aggregator(tmp_path / "bad.pt")


def test_other_files_are_no_aggregators(tmp_path, model):
    torch.save({"format": FORMAT, "shape": {"layers": 1}, "state": {}}, tmp_path / "part.pt")
    with pytest.raises(StateshiftError, match=r"part\.pt is damaged: it lacks 'residues'"):
        load_aggregator(tmp_path / "part.pt")
    with pytest.raises(StateshiftError, match="there is no such aggregator"):
        load_aggregator(tmp_path / "none.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(StateshiftError, match="it lacks 'embedding.linear.weight'"):
        load_aggregator(tmp_path / "other.pt")
    torch.save(model, tmp_path / "pickled.pt")
    with pytest.raises(StateshiftError, match="can be read safely"):
        load_aggregator(tmp_path / "pickled.pt")
