"""Weights of a run into a model, without executing pickled code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from stateshift.errors import StateshiftError, first_line, suggestion
from stateshift.files import intact, read_tensors, refuse_broken
from stateshift.run import WAY_OUT, RunDirectory
from stateshift.transition.config import FROM_DATA, TransitionConfig
from stateshift.transition.model import TransitionModel

MODEL_KEYS = {f.name for f in fields(TransitionConfig)} - set(FROM_DATA) | {"name"}
"""What a ``model`` group may hold; the rest of a shape comes from the data."""


def config_from(
    model: dict, genes: int, features: int, scale: str, batches: int = 0, every_gene: int = 0
) -> TransitionConfig:
    """A `TransitionConfig` from a Hydra ``model`` group, the data's widths, scale and number of batches."""
    unknown = sorted(set(model) - MODEL_KEYS)
    if unknown:
        raise StateshiftError(f"model.{unknown[0]} is read by nothing{suggestion(unknown[0], MODEL_KEYS)}.")
    space = "embedding" if scale == "embedding" else "expression"
    settings = {k: value for k, value in model.items() if k != "name"}
    if not (settings.get("batch_encoder") or settings.get("batch_token")):
        batches = 0
    return TransitionConfig(
        genes=genes, features=features, space=space, batches=batches, every_gene=every_gene, **settings
    )


def config_of(run: RunDirectory, features: int) -> TransitionConfig:
    """The shape of a run's model, with F features."""
    config = run.config()
    with intact(run.config_file, WAY_OUT):
        return config_from(
            config["model"], len(run.genes()), features, config["scale"], len(run.batches()), len(run.every_gene())
        )


def load_transition(run: RunDirectory, features: int, checkpoint: Path | None = None) -> TransitionModel:
    """A model of a run, in evaluation mode.

    Parameters
    ----------
    run
        The run directory.
    features
        F, the width of its feature table.
    checkpoint
        One of the run's; default ``best.ckpt``.

    Raises
    ------
    StateshiftError
        There is no checkpoint, it can't be read safely, or its shapes don't fit the run.
    """
    checkpoint = checkpoint or run.best
    if not checkpoint.is_file():
        raise StateshiftError(
            f"{run.path} has no checkpoints/{checkpoint.name}: the run stopped before its first validation."
        )
    state, told = read_weights_and_shape(checkpoint)
    if any(".lora_" in name for name in state):
        raise StateshiftError(f"{checkpoint} holds LoRA's adapters apart from the weights: take {run.best}.")
    shape = config_of(run, features)
    if not shape.predicts_every_gene:
        told.pop("every_gene", None)  # a training that doesn't need them may not have read them
    for name, value in told.items():
        # some shapes are those of another network's weights too
        if json.dumps(getattr(shape, name, value)) != json.dumps(value):
            raise StateshiftError(
                f"{checkpoint} does not fit {run.config_file}: its {name} is {value}, not {getattr(shape, name)}. {WAY_OUT}"
            )
    model = TransitionModel(shape)
    try:
        take_start(model, state)
        make_room(model, state)
        model.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise StateshiftError(
            f"{checkpoint} does not fit {run.config_file}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval()


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """A model's state dict from a checkpoint of ours."""
    return read_weights_and_shape(checkpoint)[0]


def read_weights_and_shape(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's state dict from a checkpoint of ours, and the `TransitionConfig` that it was trained with, as a dict.

    The latter is empty in a checkpoint of an earlier version, or of another program.
    """
    try:
        stored = read_tensors(checkpoint)
        weights = {name.removeprefix("model."): value for name, value in stored["state_dict"].items()}
        refuse_broken(weights, checkpoint)
        return weights, dict(stored.get("shape", {}))
    except StateshiftError:
        raise
    except Exception as error:
        raise StateshiftError(f"{checkpoint} can't be read: {first_line(error)}") from error


def take_start(model: TransitionModel, state: Mapping[str, Tensor]) -> None:
    """Give a model the linear start of a state dict, whose rank is stored nowhere else.

    Raises
    ------
    KeyError, ValueError
        A part is absent, or the parts don't fit each other.
    """
    c = model.config
    if c.start != "effect":
        return
    rank = len(state["effect_up"])
    due = {"effect_down": (c.features, rank), "effect_up": (rank, c.width), "effect_intercept": (c.width,)}
    if c.gene_decoder:
        due |= {"gene_effect_up": (rank, c.every_gene), "gene_effect_intercept": (c.every_gene,)}
    for name, shape in due.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)} where {shape} is due.")
    # as the weights are, which a state dict is copied into
    parts = {name: state[name].to(model.project_out[0].weight.dtype) for name in due}
    model.set_start(parts["effect_down"], parts["effect_up"], parts["effect_intercept"])
    if c.gene_decoder:
        model.set_gene_start(parts["gene_effect_up"], parts["gene_effect_intercept"])


def make_room(model: TransitionModel, state: Mapping[str, Tensor]) -> None:
    """Give a model the ESM2 layers that a state dict has trained; their heads are stored nowhere else."""
    c = model.config
    if c.unfreeze_esm_layers:
        from stateshift.proteins.esm2.last_layers import LastLayers

        heads = c.features // (2 * len(state["pert_encoder.last_layers.frequencies"]))
        model.pert_encoder.unfreeze(LastLayers(c.unfreeze_esm_layers, c.features, heads))
