"""The ``training`` and ``data`` groups of a config: every key there is, what it means, what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from stateshift.errors import suggestion

SCHEDULES = ("constant", "cosine")
SELECTORS = ("pearson_delta", "val_loss")
STRATEGIES = ("auto", "ddp", "fsdp")
LOGGERS = ("tensorboard", "wandb")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "64-true")
"""Lightning's, but for ``16-true``: AdamW's ε is 0 there, and what has no gradient becomes no number."""
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

RESUMABLE = (
    "training.max_steps", "training.val_every", "training.patience", "training.accelerator", "training.precision",
    "training.compile", "training.gradient_checkpointing", "training.loggers",
    "data.num_workers", "data.memory_gb", "data.cache",
)  # fmt: skip
"""What may differ between a run and its continuation."""


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters of a fine-tuning, as `stateshift.transition.fine_tuning.lora.add_adapters` puts them in.

    Parameters
    ----------
    rank
        Of the adapters; 0 for none.
    alpha
        The adapters are weighed by alpha / rank.
    dropout
        Of what an adapter reads.
    targets
        Layers of each transformer block that get one.
    """

    rank: int = 0
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def problems(self) -> list[str]:
        """A sentence for each setting that can't be used."""
        found = _whole("training.lora", "rank", self.rank, 0)
        if not _is_number(self.alpha) or not 0 < self.alpha < math.inf:
            found.append(f"training.lora.alpha={self.alpha} has to be a number above 0.")
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            found.append(f"training.lora.dropout={self.dropout} has to be a number from 0 to below 1.")
        if not isinstance(self.targets, list | tuple) or not self.targets:
            return [*found, f"training.lora.targets={self.targets} has to be a list, as [q_proj,v_proj]."]
        strange = [name for name in self.targets if name not in LORA_TARGETS]
        return found + [f"training.lora.targets: {x} is no layer{suggestion(x, LORA_TARGETS)}." for x in strange]


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    max_steps
        Optimiser steps.
    lr, weight_decay, warmup_steps, schedule, esm_lr
        As `stateshift.transition.optimiser.Optimiser` takes them.
    gradient_clip
        Norm that gradients are cut to; None for no limit.
    accumulate
        Batches whose gradients make one step.
    ema
        Decay of an exponential moving average of the weights, as 0.999, which is validated and becomes
        ``best.ckpt``; None for none.
    val_every
        Steps between validations, each of which saves ``last.ckpt``.
    select_by
        What the best checkpoint is the best in: ``pearson_delta`` or ``val_loss``.
    patience
        Validations without a better one after which training stops; None for never.
    precision
        Lightning's word for it.
    accelerator
        Lightning's word for it.
    devices, nodes
        Processes a machine, and machines.
    strategy
        Of several processes: ``auto`` and ``ddp`` copy the model to each, ``fsdp`` cuts it up among them.
    gradient_checkpointing
        Compute the transformer's blocks again in the backward pass, for less memory.
    compile
        ``torch.compile`` the model.
    loggers
        Of ``tensorboard`` and ``wandb``, beside ``metrics.csv``.
    freeze
        Parts of a fine-tuned model that keep their source's weights, as ``transformer_backbone``.
    lora
        `LoraSettings` of a fine-tuning.
    """

    max_steps: int
    lr: float
    val_every: int
    gradient_clip: float | None = None
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "constant"
    esm_lr: float = 1e-5
    accumulate: int = 1
    ema: float | None = None
    select_by: str = "val_loss"
    patience: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    loggers: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    lora: Mapping[str, Any] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices * self.nodes

    def problems(self) -> list[str]:
        """A sentence for each setting that can't train."""
        found = []
        for name in ("max_steps", "val_every", "accumulate", "devices", "nodes"):
            found += _whole("training", name, getattr(self, name), 1)
        found += _whole("training", "warmup_steps", self.warmup_steps, 0)
        if self.patience is not None:
            found += _whole("training", "patience", self.patience, 1)
        for name in ("lr", "esm_lr"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < math.inf:
                found.append(f"training.{name}={value} has to be a number above 0.")
        for name in ("gradient_clip", "weight_decay"):
            value = getattr(self, name)
            if not (value is None and name == "gradient_clip") and not (_is_number(value) and 0 <= value < math.inf):
                found.append(f"training.{name}={value} has to be a number of at least 0.")
        if self.ema is not None and not (_is_number(self.ema) and 0 < self.ema < 1):
            found.append(f"training.ema={self.ema} has to be a number between 0 and 1, as 0.999, or null.")
        for name in ("gradient_checkpointing", "compile"):
            found += _switch("training", name, getattr(self, name))
        choices = {
            "schedule": SCHEDULES, "select_by": SELECTORS, "strategy": STRATEGIES, "precision": PRECISIONS,
            "accelerator": ACCELERATORS,
        }  # fmt: skip
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                found.append(f"training.{name}={value} is no choice{suggestion(value, known)}.")
        if not isinstance(self.loggers, list | tuple):
            found.append(f"training.loggers={self.loggers} has to be a list, as [tensorboard].")
        else:
            found += [
                f"training.loggers: {x} is none{suggestion(x, LOGGERS)}." for x in self.loggers if x not in LOGGERS
            ]
        if self.strategy == "fsdp" and self.ema is not None:
            found.append("training.ema averages whole weights, which training.strategy=fsdp cuts up: choose one.")
        if not isinstance(self.freeze, list | tuple):
            found.append(f"training.freeze={self.freeze} has to be a list, as [transformer_backbone].")
        if not isinstance(self.lora, Mapping):
            return [*found, f"training.lora={self.lora} has to be a group, as training.lora.rank=8."]
        return found + read_group("training.lora", LoraSettings, self.lora)[1]


@dataclass(frozen=True)
class DataSettings:
    """How cells reach the model.

    Parameters
    ----------
    batch_size
        Sets a batch, in each process.
    by_batch
        Whether a set holds the cells of one batch only.
    num_workers
        Processes that make batches.
    memory_gb
        Matrices larger together stay on disk.
    cache
        The folder of their cache; None for the user's.
    """

    batch_size: int
    by_batch: bool = False
    num_workers: int = 0
    memory_gb: float = 8
    cache: str | None = None

    def problems(self) -> list[str]:
        """A sentence for each setting that can't be used."""
        found = _whole("data", "batch_size", self.batch_size, 1) + _whole("data", "num_workers", self.num_workers, 0)
        found += _switch("data", "by_batch", self.by_batch)
        if not _is_number(self.memory_gb) or self.memory_gb < 0:
            found.append(f"data.memory_gb={self.memory_gb} has to be a number of at least 0.")
        if not isinstance(self.cache, str | None):
            found.append(f"data.cache={self.cache} has to be a folder.")
        return found


def unknown_keys(group: str, given: Mapping[str, Any], known: set[str]) -> list[str]:
    """A sentence for each key that nothing reads."""
    dot = f"{group}." if group else ""
    return [f"{dot}{key} is read by nothing{suggestion(key, known)}." for key in given if key not in known]


def read_group(group: str, kind: type, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A group as its dataclass, and all that is wrong with it; None where it can't be made."""
    known = {f.name for f in fields(kind)}
    problems = unknown_keys(group, given, known)
    try:
        settings = kind(**{key: value for key, value in given.items() if key in known})
    except TypeError as error:
        return None, [*problems, f"{group}: {error}."]
    return settings, problems + settings.problems()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(group: str, name: str, value: Any, least: int) -> list[str]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return []
    return [f"{group}.{name}={value} has to be a whole number of at least {least}."]


def _switch(group: str, name: str, value: Any) -> list[str]:
    return [] if isinstance(value, bool) else [f"{group}.{name}={value} has to be true or false."]
