"""The last layers of an ESM2 network by themselves, to be trained on the states below them.

Letters of shapes: N windows of proteins, T tokens, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stateshift.proteins.esm2.network import ESM2, Block, Norm, Seen, Shape, frequencies, rotation


class LastLayers(nn.Module):
    """Blocks of ESM2 and its final norm, in single precision, whose gradients flow.

    Parameters
    ----------
    shape
        Of the whole network.
    n_layers
        Blocks, counted from the end.

    Attributes
    ----------
    below
        The layer whose rows go in.
    """

    def __init__(self, shape: Shape, n_layers: int):
        super().__init__()
        self.shape, self.below = shape, shape.layers - n_layers
        self.blocks = nn.ModuleList(Block(shape) for _ in range(n_layers))
        self.norm = Norm(shape.width, shape.epsilon)
        self.register_buffer("frequencies", frequencies(shape.width // shape.heads))

    def take(self, network: ESM2) -> None:
        """Copy the weights of a whole network, which is in single precision."""
        self.blocks.load_state_dict(network.blocks[self.below :].state_dict())
        self.norm.load_state_dict(network.norm.state_dict())
        self.frequencies.copy_(network.frequencies)

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Rows (T, D) of layer `below`, BOS and EOS included, to rows (N, T, D) of the last; padding is meaningless."""
        lengths = torch.tensor([len(state) for state in states], device=states[0].device)
        x = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        seen, turned = Seen(padding, x.dtype), rotation(self.frequencies, x.shape[1], self.shape.heads)
        for block in self.blocks:
            x = x + block.attended(x, turned, seen)[0]
            x = x + block.fed(x)
        return self.norm(x)
