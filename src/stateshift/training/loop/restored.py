"""A checkpoint that a training goes on from, held against the run before the first step."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from stateshift.errors import StateshiftError, first_line, is_out_of_memory
from stateshift.files import is_disk_full
from stateshift.run import WAY_OUT
from stateshift.training.settings import RESUMABLE

PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks")


class Restored(lightning.Callback):
    """Refuse a checkpoint whose parts don't fit each other or the model.

    Lightning takes what it finds: without a random state, an optimiser's moments or the counts of steps it would go on, to
    other weights than those of an unbroken training; moments of other shapes crash the process. Checksums of all parts
    are stored with them: those of the file itself say nothing of one that was read, altered and saved again.

    Parameters
    ----------
    checkpoint
        Where there is one.
    config
        Of the run; what differs from the checkpoint's is refused, but for what may (`RESUMABLE`).
    """

    def __init__(self, checkpoint: Path | None, config: Mapping[str, Any]):
        self.checkpoint = checkpoint
        self._settings = {
            f"{group}.{name}": value
            for group in ("model", "loss", "training", "data")
            for name, value in config.get(group, {}).items()
            if f"{group}.{name}" not in RESUMABLE
        } | {"seed": config["seed"]}
        self._at_work = False

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint that can be resumed."""
        return {"settings": self._settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the settings, as JSON has them."""
        for key, value in state_dict["settings"].items():
            now = self._settings.get(key)
            if key not in RESUMABLE and json.dumps(now) != json.dumps(value):
                raise ValueError(f"it was trained with {key}={value}, and config.yaml says {now}")

    @contextlib.contextmanager
    def or_named(self) -> Iterator[None]:
        """What fails from the reading of the checkpoint to the first step is laid to it; a StateshiftError says so."""
        try:
            yield
        except StateshiftError:
            raise
        except Exception as error:
            if not self._at_work or is_out_of_memory(error) or is_disk_full(error):
                raise
            raise StateshiftError(
                f"{self.checkpoint} is no checkpoint that this run can go on from: {first_line(error)}. {WAY_OUT}"
            ) from error

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Lightning is about to read the checkpoint."""
        self._at_work = self.checkpoint is not None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store a checksum of every part."""
        checkpoint["checksums"] = {part: _checksum(checkpoint[part]) for part in PARTS}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See that all parts are there, and note how far it was."""
        # a model cut up among processes took its parts out as it was loaded
        wanted = PARTS[1:] if isinstance(trainer.strategy, ModelParallelStrategy) else PARTS
        lacking = [part for part in wanted if not checkpoint.get(part)]
        stateful = {c.state_key for c in trainer.callbacks if type(c).state_dict is not lightning.Callback.state_dict}
        lacking += sorted(stateful - {name for name, state in checkpoint["callbacks"].items() if state})
        kept = checkpoint.get("checksums", {})
        lacking += [f"the checksum of {part}" for part in wanted if part not in kept]
        if lacking:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        for part in wanted:
            if _checksum(checkpoint[part]) != kept[part]:
                raise ValueError(f"its {part} are not as they were written")
        self._step, self._counts = checkpoint["global_step"], list(_leaves(checkpoint["loops"]["fit_loop"]))

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Compare what was restored with what was stored."""
        if not self._at_work:
            return
        whole = all(type(count) in (int, bool) and count >= 0 for count in self._counts)
        if not whole or trainer.global_step != self._step:
            raise ValueError("its counts of steps don't fit each other")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The first step is done."""
        self._at_work = self._at_work and trainer.global_step == self._step


def _checksum(content: Any, before: int = 0) -> int:
    """CRC-32 of all keys, tensors and plain values, going on from what came before."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            before = _checksum(value, zlib.crc32(repr(key).encode(), before))
    elif isinstance(content, list | tuple):
        for value in content:
            before = _checksum(value, before)
    elif isinstance(content, Tensor):
        before = zlib.crc32(f"{content.dtype}{tuple(content.shape)}".encode(), before)
        before = zlib.crc32(content.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), before)
    else:
        before = zlib.crc32(repr(content).encode(), before)
    return before


def _leaves(content: Any) -> Iterator[Any]:
    if isinstance(content, Mapping):
        for part in content.values():
            yield from _leaves(part)
    else:
        yield content
