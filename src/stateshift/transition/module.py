"""The transition model under Lightning: loss, validation, optimiser."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor

from stateshift.transition.losses import energy_distance
from stateshift.transition.model import TransitionConfig, TransitionModel, masked_mean


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

    def validation_step(self, batch: dict, _: int) -> None:
        """Energy distance and the error of the mean shift, per set."""
        predicted = self.model(batch)
        distances = self._distances(batch, predicted)
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        shift_error = (masked_mean(predicted, mask) - masked_mean(measured, mask)).pow(2).sum(dim=1).sqrt()
        self.log("val_loss", distances.mean(), prog_bar=True, batch_size=len(distances))
        self.log("val_shift_error", shift_error.mean(), batch_size=len(distances))

    def _distances(self, batch: dict, predicted: Tensor) -> Tensor:
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        return energy_distance(predicted, measured, mask)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam without a schedule."""
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)
