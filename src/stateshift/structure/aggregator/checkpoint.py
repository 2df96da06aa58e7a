"""Aggregators on disk: ours with what they were trained on, and the published flat state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from stateshift.errors import StateshiftError, some
from stateshift.files import intact, read_tensors, sha256, written_beside
from stateshift.structure.aggregator.model import Aggregator, AggregatorShape, heads_of

FORMAT = "stateshift aggregator 1"


@dataclass
class TrainedAggregator:
    """An aggregator and what its residue rows have to be.

    Parameters
    ----------
    model
        In evaluation mode.
    residues
        What its rows are: ``model`` (name), ``model_sha256``, ``geometry`` (bool); empty for a flat state
        dict, which tells nothing of them.
    training
        How it was trained; free text and numbers.
    sha256
        Of its file.
    """

    model: Aggregator
    residues: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def geometry(self) -> bool:
        """Whether its rows carry local geometry after the residue model's values."""
        return bool(self.residues.get("geometry", False))

    def refuse_other_rows(self, identity: Mapping[str, Any]) -> None:
        """Refuse residue rows that it was not trained on, where what they are is known on both sides.

        Raises
        ------
        StateshiftError
            They are of another model, or have local geometry where it takes none, or none where it takes it.
        """
        if not self.residues or not identity:
            return
        if any(self.residues.get(k) != identity.get(k) for k in ("model_sha256", "geometry")):
            told = [
                f"{d.get('model')}{' with geometry' if d.get('geometry') else ''}" for d in (self.residues, identity)
            ]
            raise StateshiftError(
                f"The aggregator was trained on rows of {told[0]}, these are of {told[1]}: name the other with "
                "--aggregator, --checkpoint or --residue-location."
            )


def save_aggregator(trained: TrainedAggregator, path: str | Path, overwrite: bool = False) -> Path:
    """Write an aggregator as one file that `load_aggregator` reads without running pickled code."""
    content = {
        "format": FORMAT,
        "shape": asdict(trained.model.shape),
        "residues": trained.residues,
        "training": trained.training,
        "state": {name: value.detach().cpu() for name, value in trained.model.state_dict().items()},
    }
    with written_beside(path, overwrite) as part:
        torch.save(content, part)
    return Path(path)


def load_aggregator(path: str | Path) -> TrainedAggregator:
    """Read an aggregator: ours, or a flat state dict in the published names.

    Parameters
    ----------
    path
        The file, read by torch's weights-only loader. A flat state dict may lie under ``state_dict`` and
        its names may begin with ``model.``; its shape is read off its tensors, with heads by `heads_of` unless H
        is the published 1,536, which has 12 of 128.

    Raises
    ------
    StateshiftError
        It is missing, damaged, holds Python objects, or isn't a whole aggregator.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such aggregator.")
    try:
        content = read_tensors(path)
    except Exception as error:
        raise StateshiftError(
            f"{path} is no aggregator that can be read safely: it is damaged or holds objects."
        ) from error
    if isinstance(content, dict) and content.get("format") == FORMAT:
        with intact(path, "Copy it anew, or train again."):
            shape, state = AggregatorShape(**content["shape"]), dict(content["state"])
            described = {"residues": dict(content["residues"]), "training": dict(content["training"])}
    else:
        state = _flat(content, path)
        shape, described = shape_of(state, str(path)), {}
    with torch.device("meta"):
        model = Aggregator(shape)
    _check(model, state, path)
    model.load_state_dict(state, strict=True, assign=True)
    return TrainedAggregator(model.eval().requires_grad_(False), **described, sha256=sha256(path))


def shape_of(state: dict[str, torch.Tensor], where: str) -> AggregatorShape:
    """The shape that a state dict in the published names belongs to."""
    try:
        hidden = state["embedding.linear.weight"].shape[0]
        width = state["input.weight"].shape[1] if "input.weight" in state else hidden
        feedforward = state["transformer.layers.0.linear1.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise StateshiftError(
            f"{where} is no aggregator: it lacks {error}; its names begin {some(state, 3)}."
        ) from error
    layers = 1 + max(int(m[1]) for key in state if (m := re.match(r"transformer\.layers\.(\d+)\.", key)))
    blocks = 1 + max((int(m[1]) for key in state if (m := re.match(r"embedding\.block(\d+)\.", key))), default=0)
    heads = 12 if hidden == 1536 else heads_of(hidden)
    return AggregatorShape(width, hidden, heads, feedforward, layers, blocks)


def _flat(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a flat state dict by their published names."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()) or not content:
        raise StateshiftError(f"{path} is no aggregator: neither ours nor a state dict of tensors.")
    return {re.sub(r"^(module\.|model\.)+", "", str(name)): value.float() for name, value in content.items()}


def _check(model: Aggregator, state: dict[str, torch.Tensor], path: Path) -> None:
    """Every tensor is there, none is left over, all are of their shape and finite."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    wrong = [f"lacks {some(sorted(set(expected) - set(state)), 3)}"] if set(expected) - set(state) else []
    wrong += [f"also holds {some(sorted(set(state) - set(expected)), 3)}"] if set(state) - set(expected) else []
    both = expected.keys() & state.keys()
    shapes = sorted(name for name in both if tuple(state[name].shape) != expected[name])
    wrong += [f"has other shapes in {some(shapes, 3)}"] if shapes else []
    broken = sorted(name for name in both if not torch.isfinite(state[name]).all())
    wrong += [f"holds NaN or infinity in {some(broken, 3)}"] if broken else []
    if wrong:
        raise StateshiftError(f"{path} is no whole aggregator: it {' and '.join(wrong)}.")
