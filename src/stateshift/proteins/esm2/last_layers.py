"""The last layers of an ESM2 network by themselves, to be trained on the states below them.

Letters of shapes: N windows of proteins, T tokens, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stateshift.errors import StateshiftError
from stateshift.proteins.esm2.network import ESM2, Block, Norm, Seen, Shape, frequencies, rotation


class LastLayers(nn.Module):
    """Blocks of ESM2 and its final norm, in single precision, whose gradients flow.

    Parameters
    ----------
    n_layers
        Blocks, counted from the end.
    width, heads
        D, and the heads of each block.
    """

    def __init__(self, n_layers: int, width: int, heads: int):
        super().__init__()
        shape, self.heads = Shape(n_layers, width, heads), heads
        self.blocks = nn.ModuleList(Block(shape) for _ in range(n_layers))
        self.norm = Norm(width, shape.epsilon)
        self.register_buffer("frequencies", frequencies(width // heads))

    @classmethod
    def of(cls, network: ESM2, n_layers: int) -> LastLayers:
        """A copy of those of a whole network in single precision.

        Raises
        ------
        StateshiftError
            The network has no layer below them, or its norms are not fair-esm's.
        """
        shape = network.shape
        if not 0 < n_layers <= shape.layers:
            raise StateshiftError(
                f"model.unfreeze_esm_layers={n_layers}: the ESM2 model has {shape.layers} layers, of which 1 to "
                f"{shape.layers} can be unfrozen."
            )
        layers = cls(n_layers, shape.width, shape.heads)
        if shape.epsilon != layers.norm.epsilon:
            raise StateshiftError("ESM2's layers can be unfrozen where its norms are fair-esm's (ε = 1e-5) alone.")
        with torch.no_grad():
            layers.blocks.load_state_dict(network.blocks[shape.layers - n_layers :].state_dict())
            layers.norm.load_state_dict(network.norm.state_dict())
            layers.frequencies.copy_(network.frequencies)
        return layers

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Rows (T, D) of the layer below, BOS and EOS included, to the last's (N, T, D); padding is meaningless."""
        lengths = torch.tensor([len(state) for state in states], device=states[0].device)
        x = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        seen, turned = Seen(padding, x.dtype), rotation(self.frequencies, x.shape[1], self.heads)
        for block in self.blocks:
            x = x + block.attended(x, turned, seen)[0]
            x = x + block.fed(x)
        return self.norm(x)
