"""A training step: the loss of hidden residues, AdamW with a rate each for ESM2 and what is new."""

from __future__ import annotations

import lightning
import torch
from torch.nn.functional import cross_entropy

from stateshift.rag_esm.model.network import RagESM
from stateshift.rag_esm.training.batches import Batch
from stateshift.rag_esm.training.masking import IGNORED
from stateshift.rag_esm.training.settings import Settings


class Training(lightning.LightningModule):
    """A network and how it is trained; `state` of a stopped training's optimiser goes on."""

    def __init__(self, network: RagESM, settings: Settings, optimiser_state: dict | None = None):
        super().__init__()
        self.network, self.settings, self._state = network, settings, optimiser_state
        network.requires_grad_(False)
        network.cross.requires_grad_(True)
        if settings.train_esm:
            network.esm.requires_grad_(True)
            network.esm.contact_weight.requires_grad_(False)
            network.esm.contact_bias.requires_grad_(False)

    def training_step(self, batch: Batch) -> torch.Tensor:
        """Mean negative log-likelihood of the hidden residues, divided by their share where that is asked for."""
        tokens, targets, contexts, rate = batch
        context = self.network.encode(contexts) if self.network.layers else None
        rows = self.network(tokens, context)
        hidden = targets != IGNORED
        loss = cross_entropy(self.network.logits(rows[hidden]).float(), targets[hidden])
        self.log("loss", loss.detach())
        return loss / rate if self.settings.divide_by_rate else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at constant rates."""
        s = self.settings
        groups = [
            {"params": list(self.network.cross.parameters()), "lr": s.cross_lr},
            {"params": [p for p in self.network.esm.parameters() if p.requires_grad], "lr": s.lr},
        ]
        groups = [group for group in groups if group["params"]]
        optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=s.weight_decay)
        if self._state is not None:
            optimiser.load_state_dict(self._state)
        return optimiser
