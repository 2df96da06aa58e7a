"""ESM2 that reads a homolog: blocks of cross-attention between its own, gated from zero.

Letters of shapes: B proteins, T tokens, C tokens of the context, H heads, d width of a head, D embedding width,
V tokens of the alphabet.

The model is RAG-ESM's (Sgarbossa & Bitbol 2025, doi:10.1101/2025.04.02.646805) on ESM2 (Lin et al. 2023); gates of
tanh that start at zero are Flamingo's (Alayrac et al. 2022, arXiv:2204.14198).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from stateshift.proteins.esm2.network import ESM2, Block, Norm, Seen, Shape


@dataclass
class Context:
    """What the decoder reads of homologs; made once, however many steps read it.

    Parameters
    ----------
    keys, values
        Layer → (B, H, C, d); B is 1 where all proteins share a context.
    hidden
        (B, 1, 1, C): −∞ at padding; None without padding.
    """

    keys: dict[int, torch.Tensor]
    values: dict[int, torch.Tensor]
    hidden: torch.Tensor | None

    def rows(self, picked: torch.Tensor | slice) -> Context:
        """The contexts of some of the proteins."""
        hidden = None if self.hidden is None else self.hidden[picked]
        return Context(
            {i: k[picked] for i, k in self.keys.items()}, {i: v[picked] for i, v in self.values.items()}, hidden
        )


class CrossBlock(nn.Module):
    """Attention to a homolog's rows, then a feed-forward, each with a residual of its own inside a gated one.

    With rows h and the homolog's rows e::

        c  = h + out(attention(queries of norm(h), keys and values of e))
        h1 = h + tanh(gate) c
        h2 = h1 + tanh(mlp_gate) (h1 + down(gelu(up(mlp_norm(h1)))))

    Both gates start at 0, and then h2 is h exactly.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        D = shape.width
        self.heads = shape.heads
        self.norm, self.mlp_norm = Norm(D, shape.epsilon), Norm(D, shape.epsilon)
        self.query, self.key, self.value, self.out = (nn.Linear(D, D) for _ in range(4))
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.gate, self.mlp_gate = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        for layer in (self.query, self.key, self.value, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def keys_values(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, C, d) each, of a homolog's rows (B, C, D)."""
        return self._by_head(self.key(rows)), self._by_head(self.value(rows))

    def forward(self, h: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """(B, T, D) → (B, T, D)."""
        q = self._by_head(self.query(self.norm(h)))
        B = len(h)
        k, v = (part.expand(B, -1, -1, -1) for part in (k, v))
        mask = None if hidden is None else hidden.to(q.dtype)
        attended = scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=mask)
        h = h + self.gate.tanh() * (h + self.out(attended.transpose(1, 2).flatten(2)))
        return h + self.mlp_gate.tanh() * (h + self.down(gelu(self.up(self.mlp_norm(h)))))

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class RagESM(nn.Module):
    """Masked proteins and a homolog of each in, token logits out.

    Encoder and decoder are one ESM2. Layer i of the decoder reads what goes into layer i of the encoder, so the
    encoder stops before the last of them.

    Parameters
    ----------
    esm
        The ESM2 model.
    layers
        The layers, counted from 0, that a `CrossBlock` follows.
    encoder
        An encoder with weights of its own, as checkpoints trained elsewhere may have.
    """

    def __init__(self, esm: ESM2, layers: Sequence[int], encoder: ESM2 | None = None):
        super().__init__()
        self.esm, self.encoder = esm, encoder
        self.cross = nn.ModuleDict({str(i): CrossBlock(esm.shape) for i in layers})

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that a cross block follows."""
        return tuple(int(i) for i in self.cross)

    def encode(self, tokens: torch.Tensor) -> Context:
        """Keys and values of unmasked homologs (B, C)."""
        encoder = self.encoder or self.esm
        x, padding = encoder._embedded(tokens)
        seen, rotation = Seen(padding, encoder.attention), encoder._rotation(tokens.shape[1])
        keys, values = {}, {}
        for i, block in enumerate(encoder.blocks[: max(self.layers, default=-1) + 1]):
            if i in self.layers:
                keys[i], values[i] = self.cross[str(i)].keys_values(x)
            if i < self.layers[-1]:
                x = _through(block, x, rotation, seen)
        return Context(keys, values, seen.hidden if padding.any() else None)

    def forward(self, tokens: torch.Tensor, context: Context | None = None) -> torch.Tensor:
        """Rows (B, T, D) after the final norm; without a context the cross blocks are left out.

        Parameters
        ----------
        tokens
            (B, T), masks among them.
        context
            What `encode` made of B homologs, or of one for all.
        """
        x, padding = self.esm._embedded(tokens)
        seen, rotation = Seen(padding, self.esm.attention), self.esm._rotation(tokens.shape[1])
        for i, block in enumerate(self.esm.blocks):
            x = _through(block, x, rotation, seen)
            if context is not None and i in context.keys:
                x = self.cross[str(i)](x, context.keys[i], context.values[i], context.hidden)
        return self.esm.norm(x)

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Token logits (…, V) of rows (…, D) after the final norm."""
        esm = self.esm
        return linear(esm.head_norm(gelu(esm.head_dense(rows))), esm.embedding, esm.head_bias)

    def decoder_parameters(self) -> int:
        """How many weights the decoder has, ESM2's contact regression included."""
        return sum(p.numel() for module in (self.esm, self.cross) for p in module.parameters())


def _through(block: Block, x: torch.Tensor, rotation: torch.Tensor, seen: Seen) -> torch.Tensor:
    """A block of ESM2 with nothing changed in place, for gradients."""
    x = x + block.attended(x, rotation, seen)[0]
    return x + block.fed(x)
