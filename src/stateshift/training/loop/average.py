"""An exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import Tensor, nn


class WeightAverage(lightning.Callback):
    """Average trained weights over steps: average ← decay · average + (1 − decay) · weight.

    In the first steps the decay is (1 + steps) / (10 + steps) where that is less, so that the average
    forgets the untrained weights.

    Parameters
    ----------
    decay
        Near 1, as 0.999.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.averages: dict[str, Tensor] = {}
        self._steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint that can be resumed."""
        return {"averages": self.averages, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.averages, self._steps = state_dict["averages"], state_dict["steps"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start from the untrained weights."""
        trained = _trained(module)
        # in half precision the small steps of an average would be rounded to none
        kept = self.averages or {name: _precise(weight.detach().clone()) for name, weight in trained.items()}
        # a checkpoint's may be of another precision than a resumed training's
        self.averages = {name: value.to(_precise(trained[name])) for name, value in kept.items()}
        self._steps = max(self._steps, trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step's weights in."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            trained = _trained(module)
            weights = [_precise(trained[name]) for name in self.averages]
            torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)

    @contextlib.contextmanager
    def swapped_in(self, module: nn.Module) -> Iterator[None]:
        """The module with the averages in place of its weights."""
        trained = _trained(module)
        own = {name: weight.detach().clone() for name, weight in trained.items()}
        with torch.no_grad():
            for name, weight in trained.items():
                weight.copy_(self.averages[name])
            try:
                yield
            finally:
                for name, weight in trained.items():
                    weight.copy_(own[name])


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _precise(weight: Tensor) -> Tensor:
    """In float32 at least."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))
