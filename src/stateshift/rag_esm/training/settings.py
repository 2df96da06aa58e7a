"""How a RAG-ESM is trained: presets shipped with the package, a user's overrides, all checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.rag_esm.homologs.choice import CHOICES

MASKINGS = ("mlm", "diffusion")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LEAST_ZERO = ("weight_decay", "clip", "seed")
WHOLE = ("top_k", "max_length", "max_context", "accumulate", "max_steps", "val_every", "val_proteins", "devices")


@dataclass(frozen=True)
class Settings:
    """The keys of ``configs/rag_esm/*.yaml``, where each is explained."""

    base: str | None = None
    cross_layers: str = "alternate-2"
    train_esm: bool = False
    masking: str = "diffusion"
    mask_rate: float = 0.15
    divide_by_rate: bool = False
    context: str = "random"
    top_k: int = 10
    lr: float = 1e-4
    cross_lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    max_length: int = 1024
    max_context: int = 1024
    tokens_per_batch: int = 16384
    accumulate: int = 8
    max_steps: int = 50000
    val_every: int = 500
    val_proteins: int = 256
    precision: str = "bf16-mixed"
    devices: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be 1 or more, not {getattr(self, name)}." for name in WHOLE if getattr(self, name) < 1
        ]
        for name, known in (("masking", MASKINGS), ("context", CHOICES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                problems.append(f"{name} `{getattr(self, name)}` is unknown{suggestion(getattr(self, name), known)}.")
        problems += [
            f"{name} must be above 0, not {x}." for name in ("lr", "cross_lr") if not (x := getattr(self, name)) > 0
        ]
        problems += [f"{n} must be 0 or more, not {x}." for n in LEAST_ZERO if not (x := getattr(self, n)) >= 0]
        if not 0 < self.mask_rate < 1:
            problems.append(f"mask_rate must lie between 0 and 1, not {self.mask_rate}.")
        if self.tokens_per_batch < self.max_length + self.max_context + 4:
            problems.append(
                f"tokens_per_batch {self.tokens_per_batch} can't take a protein of max_length {self.max_length} with a "
                f"context of max_context {self.max_context}."
            )
        if self.cross_layers == "none" and not self.train_esm:
            problems.append("cross_layers=none without train_esm=true leaves nothing to train.")
        if problems:
            raise InputProblems("the training's settings", problems)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)


def presets() -> dict[str, Path]:
    """Name → file of the presets: inside the wheel, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[2]
    shipped = package / "configs" / "rag_esm"
    folder = shipped if shipped.is_dir() else package.parents[1] / "configs" / "rag_esm"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_settings(preset: str = "8M", overrides: Sequence[str] = ()) -> Settings:
    """A preset with overrides ``key=value``.

    Raises
    ------
    StateshiftError
        There is no such preset, or an override is no key=value.
    InputProblems
        Keys or values that don't exist or make no sense.

    Examples
    --------
    >>> read_settings("8M", ["base=null", "max_steps=200"]).max_steps
    200
    """
    known = presets()
    if preset not in known:
        raise StateshiftError(f"There is no preset `{preset}`{suggestion(preset, known)}.")
    return settings_of(yaml.safe_load(known[preset].read_text()), overrides)


def settings_of(values: dict[str, Any], overrides: Sequence[str] = ()) -> Settings:
    """Settings of plain values with overrides ``key=value``, every type checked."""
    kinds = {field.name: field.type for field in fields(Settings)}
    values = dict(values)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise StateshiftError(f"`{override}` is no override: write key=value, as in max_steps=2000.")
        values[key] = yaml.safe_load(value)
    problems = [f"there is no key `{key}`{suggestion(key, kinds)}." for key in values if key not in kinds]
    for key, kind in kinds.items():
        value = values.get(key, getattr(Settings, key))
        # yaml reads 1e-4 as text and 1,3,5 as a list or text
        if kind == "float" and not isinstance(value, bool):
            try:
                values[key] = float(value)
            except (TypeError, ValueError):
                problems.append(f"{key} = {value!r} is no number.")
        elif kind.startswith("str") and value is not None:
            values[key] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        elif kind in ("int", "bool") and type(value).__name__ != kind:
            problems.append(f"{key} = {value!r}: {'true or false' if kind == 'bool' else 'a whole number'} is needed.")
    if problems:
        raise InputProblems("the training's settings", problems)
    return Settings(**values)
