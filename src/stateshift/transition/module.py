"""The transition model under Lightning: loss, validation losses, optimiser."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor

from stateshift.transition.config import TransitionConfig
from stateshift.transition.losses import energy_distance
from stateshift.transition.model import TransitionModel, masked_mean


class TransitionModule(lightning.LightningModule):
    """Train a `TransitionModel` on the energy distance between predicted and measured sets.

    Parameters
    ----------
    config
        The model's shape.
    lr
        Adam's learning rate.
    """

    def __init__(self, config: TransitionConfig, lr: float):
        super().__init__()
        self.model = TransitionModel(config)
        self.lr = lr

    def training_step(self, batch: dict, _: int) -> Tensor:
        """Mean energy distance of the batch's sets."""
        loss = self._distances(batch, self.model(batch)).mean()
        self.log("train_loss", loss, prog_bar=True, batch_size=1)
        return loss

    def set_losses(self, batch: dict) -> dict[str, Tensor]:
        """Each set's energy distance ``val_loss`` and Euclidean error of the mean ``val_shift_error``, (B,)."""
        predicted = self.model(batch)
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        error = masked_mean(predicted, mask) - masked_mean(measured, mask)
        return {"val_loss": self._distances(batch, predicted), "val_shift_error": error.norm(dim=1)}

    def control_shifts(self, batch: dict) -> dict[str, Tensor]:
        """How far the model moves the mean of sets of control cells, (B,): 0 where it leaves them alone."""
        predicted = self.model(batch)
        control, _, mask = self.model.read_batch(batch)
        return {"control_shift": (masked_mean(predicted, mask) - masked_mean(control, mask)).norm(dim=1)}

    def _distances(self, batch: dict, predicted: Tensor) -> Tensor:
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        return energy_distance(predicted, measured, mask)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam without a schedule."""
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)
