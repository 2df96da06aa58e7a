"""The transition model under Lightning: loss, validation losses, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from torch import Tensor

from stateshift.transition.config import TransitionConfig
from stateshift.transition.losses import Objective, Populations
from stateshift.transition.losses.heads import with_heads
from stateshift.transition.model import TransitionModel, TransitionOutput, masked_mean
from stateshift.transition.optimiser import Optimiser


class TransitionModule(lightning.LightningModule):
    """Train a `TransitionModel` on the distance between predicted and measured sets.

    Parameters
    ----------
    config
        The model's shape.
    optimiser
        What trains it.
    loss
        Weights of the terms, as `Objective` takes them; absent, the energy distance alone.
    """

    def __init__(self, config: TransitionConfig, optimiser: Optimiser, loss: Mapping[str, Any] | None = None):
        super().__init__()
        self.objective = Objective({"energy": 1.0} if loss is None else loss)
        self.model = TransitionModel(config)
        self.optimiser = optimiser

    def training_step(self, batch: dict, _: int) -> dict[str, Any]:
        """Mean loss of the batch's sets, and under ``terms`` the means of it and of all that it sums."""
        losses = {name: value.mean() for name, value in self._losses(batch, self.model(batch)).items()}
        return {"loss": losses["loss"], "terms": {name: value.detach() for name, value in losses.items()}}

    def on_before_batch_transfer(self, batch: dict, dataloader_idx: int) -> dict:
        """Drop a mask that hides nothing: everything is faster without one."""
        if "mask" in batch and bool(batch["mask"].all()):
            return {name: value for name, value in batch.items() if name != "mask"}
        return batch

    def set_losses(self, batch: dict) -> tuple[dict[str, Tensor], Tensor]:
        """What validation needs of each set, without gradients.

        Returns
        -------
        tuple
            ``val_loss``, its terms and the Euclidean error of the mean ``val_shift_error``, (B,) each; and the
            mean predicted cell minus the mean control, (B, G).
        """
        output = self.model(batch)
        predicted = output.cells
        measured, _, mask = self.model.read_batch(batch, "pert_cell_emb")
        control, _, _ = self.model.read_batch(batch)
        error = masked_mean(predicted, mask) - masked_mean(measured, mask)
        losses = {f"val_{name}": value for name, value in self._losses(batch, output).items()}
        shift_BG = masked_mean(predicted, mask) - masked_mean(control, mask)
        return {**losses, "val_shift_error": error.norm(dim=1)}, shift_BG

    def control_shifts(self, batch: dict) -> dict[str, Tensor]:
        """How far the model moves the mean of sets of control cells, (B,): 0 where it leaves them alone."""
        predicted = self.model(batch).cells
        control, _, mask = self.model.read_batch(batch)
        return {"control_shift": (masked_mean(predicted, mask) - masked_mean(control, mask)).norm(dim=1)}

    def _losses(self, batch: dict, output: TransitionOutput) -> dict[str, Tensor]:
        """The objective's terms and the heads' losses of each set, (B,), and under ``loss`` what is minimised."""
        measured, features, mask = self.model.read_batch(batch, "pert_cell_emb")
        control, _, _ = self.model.read_batch(batch)
        of_cells = Populations(output.cells, measured, control, features, mask, batch.get("is_control"))
        return with_heads(self.objective(of_cells), output, self.model, batch, mask)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, and its rate set anew each step."""
        optimiser, schedule = self.optimiser.build(self.model)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
