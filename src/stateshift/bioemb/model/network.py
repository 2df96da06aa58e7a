"""The network: a vector, its bottleneck, and a decoder that has to say its code from that alone.

Letters of shapes: B entities, F width of a vector, b of the bottleneck, H of the decoder, T tokens of a code with its
end, V tokens there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stateshift.errors import StateshiftError, suggestion

PRESETS = {
    "reference": {"layers": 8, "hidden": 768, "heads": 8, "feedforward": 3072, "dropout": 0.2},
    "small": {"layers": 4, "hidden": 256, "heads": 4, "feedforward": 1024, "dropout": 0.0},
}
"""Sizes of the decoder; `small` has no dropout: it has to learn its genes by heart, and in 50 epochs."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of a network.

    Parameters
    ----------
    width
        F.
    tokens
        Numbers that a code may hold; EOS, PAD and BOS come behind them.
    length
        T.
    bottleneck
        b, the width of the fine-tuned vectors.
    layers, hidden, heads, feedforward, dropout
        Of the decoder; see `PRESETS`.
    """

    width: int
    tokens: int
    length: int
    bottleneck: int
    layers: int
    hidden: int
    heads: int
    feedforward: int
    dropout: float

    @classmethod
    def of_preset(cls, preset: str, *, width: int, tokens: int, length: int, bottleneck: int) -> Shape:
        """A shape with one of the `PRESETS`."""
        if preset not in PRESETS:
            raise StateshiftError(f"There is no model.preset `{preset}`{suggestion(preset, PRESETS)}.")
        return cls(width, tokens, length, bottleneck, **PRESETS[preset])

    @property
    def bos(self) -> int:
        """The token that stands before every code."""
        return self.tokens + 2


class BioEmb(nn.Module):
    """Vectors in; bottleneck vectors, and logits of code tokens out.

    Vectors are standardised by the columns of those it is fitted on; the decoder attends to one memory token, made of
    the bottleneck.

    Parameters
    ----------
    shape
        Its dimensions.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        H = shape.hidden
        self.register_buffer("mean", torch.zeros(shape.width))
        self.register_buffer("scale", torch.ones(shape.width))
        self.to_bottleneck = nn.Linear(shape.width, shape.bottleneck)
        self.from_bottleneck = nn.Linear(shape.bottleneck, H)
        self.token = nn.Embedding(shape.tokens + 3, H)
        self.position = nn.Parameter(0.02 * torch.randn(shape.length, H))
        layer = nn.TransformerDecoderLayer(
            H, shape.heads, shape.feedforward, shape.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, shape.layers, norm=nn.LayerNorm(H))
        self.head = nn.Linear(H, shape.tokens + 3)
        self.register_buffer(
            "causal", torch.ones(shape.length, shape.length, dtype=torch.bool).triu(1), persistent=False
        )

    def standardise_by(self, vectors: np.ndarray) -> None:
        """Take means and standard deviations from vectors (N, F); a constant column stays zero."""
        deviation = vectors.std(axis=0, dtype=np.float64)
        deviation[deviation < 1e-6 * max(float(deviation.max()), np.finfo(np.float32).tiny)] = np.inf
        self.mean.copy_(torch.from_numpy(vectors.mean(axis=0, dtype=np.float64)))
        self.scale.copy_(torch.from_numpy(1 / deviation))

    def embed(self, vectors: Tensor) -> Tensor:
        """(B, F) → (B, b): the fine-tuned vectors."""
        return self.to_bottleneck((vectors - self.mean) * self.scale)

    def logits(self, embedded: Tensor, before: Tensor) -> Tensor:
        """Logits (B, t, V) of the tokens that follow each of ``before`` (B, t), which begins with BOS."""
        t = before.shape[1]
        memory = torch.relu(self.from_bottleneck(embedded))[:, None]
        said = self.token(before) + self.position[:t]
        return self.head(self.decoder(said, memory, tgt_mask=self.causal[:t, :t], tgt_is_causal=True))

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, T, V) of the codes ``targets`` (B, T), each token told those before it."""
        return self.logits(self.embed(vectors), self.before(targets))

    def before(self, targets: Tensor) -> Tensor:
        """What stands before each token of codes (B, T): BOS, and the code without its end."""
        return torch.cat([torch.full_like(targets[:, :1], self.shape.bos), targets[:, :-1]], dim=1)
