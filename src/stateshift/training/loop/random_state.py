"""Random states kept with a checkpoint, so that dropout goes on where it was."""

from __future__ import annotations

import random
from typing import Any

import lightning
import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, in what ``weights_only`` loads."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set all generators to states that `random_states` gave."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def of_every_process(states: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of all processes that train, in their order; each of them has to ask."""
    if not torch.distributed.is_initialized():
        return [states]
    gathered = [states] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, states)
    return gathered


class RandomState(lightning.Callback):
    """Go on with a checkpoint's random states; of several processes, each draws its own.

    States are set at the first batch, after everything that draws as a training starts. Another number of processes than
    the checkpoint's begins with new ones.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []
        self._at_first_batch: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint that can be resumed."""
        return {"processes": of_every_process(self._at_first_batch or random_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's states."""
        self._restored = state_dict["processes"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep what the first batch is to start with."""
        if len(self._restored) == trainer.world_size:
            self._at_first_batch = self._restored[trainer.global_rank]
            return
        if trainer.world_size > 1:
            own = np.random.SeedSequence([torch.initial_seed() % 2**63, trainer.global_rank, trainer.global_step])
            torch.manual_seed(int(own.generate_state(1)[0]))
        self._at_first_batch = random_states()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set them, once."""
        if self._at_first_batch is not None:
            set_random_states(self._at_first_batch)
            self._at_first_batch = None
