"""What a transition model has beside its trunk: a decoder to genes, and tokens that read a set.

Shapes: B sets, S cells a set, G genes or embedding width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(n_in: int, n_out: int, hidden: int, layers: int, dropout: float) -> nn.Sequential:
    """``layers`` linear layers with GELU and dropout between them."""
    widths = [n_in, *[hidden] * (layers - 1), n_out]
    parts: list[nn.Module] = []
    for i in range(layers):
        parts.append(nn.Linear(widths[i], widths[i + 1]))
        if i < layers - 1:
            parts += [nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts)


def normed_mlp(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of these widths, layer norm, GELU and dropout between them, and a ReLU at the end."""
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(widths[:-1]):
        parts += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1]), nn.ReLU())


def gene_decoder(width: int, genes: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Predicted cells (…, width) to the expression of genes (…, genes), log1p and not negative."""
    return normed_mlp([width, *hidden, genes], dropout)


class BatchToken(nn.Module):
    """A learnt cell before the set's own, and what it tells of the set's batch."""

    def __init__(self, hidden: int, batches: int):
        super().__init__()
        self.token = nn.Parameter(torch.randn(hidden))
        self.classifier = nn.Linear(hidden, batches)

    def forward(self, z_BH: Tensor) -> Tensor:
        """The token after the transformer, (B, H), to a logit a batch."""
        return self.classifier(z_BH)


class ConfidenceToken(nn.Module):
    """A learnt cell after the set's own, and the loss that it expects of the set."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.token = nn.Parameter(torch.randn(hidden))
        self.head = normed_mlp([hidden, hidden // 2, hidden // 4, 1], dropout)

    def forward(self, z_BH: Tensor) -> Tensor:
        """The token after the transformer, (B, H), to an expected loss, (B,), not negative."""
        return self.head(z_BH).squeeze(-1)
