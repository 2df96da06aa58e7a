"""The transition model under Lightning: loss, validation losses, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

from stateshift.transition.config import TransitionConfig
from stateshift.transition.losses import Objective, Populations
from stateshift.transition.model import TransitionModel, masked_mean


class TransitionModule(lightning.LightningModule):
    """Train a `TransitionModel` on the distance between predicted and measured sets.

    Parameters
    ----------
    config
        The model's shape.
    lr
        Adam's learning rate.
    loss
        Weights of the terms, as `Objective` takes them; absent, the energy distance alone.
    """

    def __init__(self, config: TransitionConfig, lr: float, loss: Mapping[str, Any] | None = None):
        super().__init__()
        self.objective = Objective({"energy": 1.0} if loss is None else loss)
        self.model = TransitionModel(config)
        self.lr = lr

    def training_step(self, batch: dict, _: int) -> Tensor:
        """Mean loss of the batch's sets; it and each of its terms are logged."""
        losses = self._losses(batch, self.model(batch))
        for name, value in losses.items():
            self.log(f"train_{name}", value.mean(), prog_bar=name == "loss", batch_size=1)
        return losses["loss"].mean()

    def set_losses(self, batch: dict) -> dict[str, Tensor]:
        """Each set's ``val_loss``, its terms, and the Euclidean error of the mean ``val_shift_error``, (B,)."""
        predicted = self.model(batch)
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        error = masked_mean(predicted, mask) - masked_mean(measured, mask)
        losses = {f"val_{name}": value for name, value in self._losses(batch, predicted).items()}
        return {**losses, "val_shift_error": error.norm(dim=1)}

    def control_shifts(self, batch: dict) -> dict[str, Tensor]:
        """How far the model moves the mean of sets of control cells, (B,): 0 where it leaves them alone."""
        predicted = self.model(batch)
        control, _, mask = self.model.read_batch(batch)
        return {"control_shift": (masked_mean(predicted, mask) - masked_mean(control, mask)).norm(dim=1)}

    def _losses(self, batch: dict, predicted: Tensor) -> dict[str, Tensor]:
        measured, features, mask = self.model.read_batch(batch, "pert_cell_emb")
        control, _, _ = self.model.read_batch(batch)
        return self.objective(Populations(predicted, measured, control, features, mask, batch.get("is_control")))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam without a schedule."""
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)
