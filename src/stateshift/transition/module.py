"""The transition model under Lightning: loss, validation losses, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import lightning
from torch import Tensor

from stateshift.transition.config import TransitionConfig
from stateshift.transition.fine_tuning.lora import merged_state
from stateshift.transition.losses import Objective, Populations
from stateshift.transition.losses.heads import with_heads
from stateshift.transition.means import masked_mean
from stateshift.transition.model import TransitionModel, TransitionOutput
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
            mean predicted cell minus the mean control, (B, G), of every gene where the network predicts it.
        """
        output = self.model(batch)
        losses = {f"val_{name}": value for name, value in self._losses(batch, output).items()}
        predicted, measured, control, mask = self._compared(batch, output)
        error = masked_mean(predicted, mask) - masked_mean(measured, mask)
        shift_BG = masked_mean(predicted, mask) - masked_mean(control, mask)
        return {**losses, "val_shift_error": error.norm(dim=1)}, shift_BG

    def control_shifts(self, batch: dict) -> dict[str, Tensor]:
        """How far the model moves the mean of sets of control cells, (B,): 0 where it leaves them alone."""
        predicted, _, control, mask = self._compared(batch, self.model(batch))
        return {"control_shift": (masked_mean(predicted, mask) - masked_mean(control, mask)).norm(dim=1)}

    def _compared(self, batch: dict, output: TransitionOutput) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What a prediction holds of the network, the same of measured and of control cells, and the mask."""
        predicted = output.cells if output.genes is None else output.genes
        of = "counts" if self.model.config.predicts_every_gene else "emb"
        measured, _, mask = self.model.read_batch(batch, f"pert_cell_{of}")
        return predicted, measured, self.model.read_batch(batch, f"ctrl_cell_{of}")[0], mask

    def _losses(self, batch: dict, output: TransitionOutput) -> dict[str, Tensor]:
        """The objective's terms and the heads' losses of each set, (B,), and under ``loss`` what is minimised."""
        of = "counts" if self.model.config.projects_every_gene else "emb"
        measured, features, mask = self.model.read_batch(batch, f"pert_cell_{of}")
        control, _, _ = self.model.read_batch(batch, f"ctrl_cell_{of}")
        of_cells = Populations(output.cells, measured, control, features, mask, batch.get("is_control"))
        return with_heads(self.objective(of_cells), output, self.model, batch, mask)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say the model's shape; weights that nothing resumes from are a whole model, adapters added to what they adapt."""
        checkpoint["shape"] = asdict(self.model.config)
        if "optimizer_states" not in checkpoint:
            checkpoint["state_dict"] = merged_state(self, checkpoint["state_dict"])

    def configure_model(self) -> None:
        """Cut the model up among processes, block by block, where the strategy asks for it (FSDP)."""
        if self.device_mesh is None:
            return
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        for block in self.model.transformer_backbone.layers:
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, and its rate set anew each step."""
        optimiser, schedule = self.optimiser.build(self.model)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
