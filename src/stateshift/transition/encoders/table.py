"""A perturbation's features, as one vector, through an MLP.

Shapes: B sets, S cells a set, F feature width, H hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from stateshift.transition.heads import mlp

if TYPE_CHECKING:
    from stateshift.transition.config import TransitionConfig


class TableEncoder(nn.Sequential):
    """F → H by ``encoder_layers`` linear layers, as published; its weights are named as an MLP's."""

    def __init__(self, config: TransitionConfig):
        c = config
        super().__init__(*mlp(c.features, c.hidden, c.hidden, c.encoder_layers, c.dropout))

    def forward(self, batch: dict, p_BF: Tensor, basal_BSH: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Encode each set's features, (B, H)."""
        return super().forward(p_BF)
