"""ESM2's network, for inference.

Letters of shapes: B proteins, T tokens, H heads, d width of a head, D embedding width, V tokens of the alphabet.

The model is that of Lin et al., Science 379, 1123 (2023), doi:10.1126/science.ade2574; rotary positions are those of
Su et al., RoFormer (2021), arXiv:2104.09864.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from stateshift.errors import StateshiftError

V, PAD, EOS, MASK = 33, 1, 2, 32
# masked tokens are 80 % of 15 % in training, and their embeddings are zero
MASKED_IN_TRAINING = 0.15 * 0.8


@dataclass(frozen=True)
class Shape:
    """Layers, width D and heads of a network, whether embeddings are rescaled by the share of masks, ε of the norms."""

    layers: int
    width: int
    heads: int
    token_dropout: bool = True
    epsilon: float = 1e-5


@dataclass
class Output:
    """What a forward pass was asked for.

    Parameters
    ----------
    rows
        Layer → (B, T, D) float32.
    logits
        (B, T, V) float32 of the language-model head.
    contacts
        (B, T − 2, T − 2): probability that two residues touch; what lies past a protein's length means nothing.
    """

    rows: dict[int, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor | None = None
    contacts: torch.Tensor | None = None


def frequencies(d: int) -> torch.Tensor:
    """Angles (d/2,) that a pair of a head's values turns by from one position to the next."""
    return 1.0 / 10000 ** (torch.arange(0, d, 2).float() / d)


def rotation(frequencies: torch.Tensor, T: int, heads: int) -> torch.Tensor:
    """What queries and keys are multiplied by (T, D), of absolute value 1: the angle of each position."""
    angles = torch.arange(T, device=frequencies.device)[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles).repeat(1, 2 * heads)


def paired(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a fused matrix (3 D, …) in the order that the network has them.

    A head turns its value i against its value i + d/2 by one angle. Here the two are neighbours, so that the turn is
    a product of complex numbers; the order is the same in queries and keys, and their products don't change.
    """
    q, k, v = weight.unflatten(0, (3, heads, -1))
    q, k = (part.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2) for part in (q, k))
    return torch.stack([q, k, v]).flatten(0, 2)


class Norm(nn.Module):
    """Layer norm over D in single precision."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, D) → (…, D)."""
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class Block(nn.Module):
    """Pre-norm attention and feed-forward; products in the precision of the weights, sums in single precision."""

    def __init__(self, shape: Shape):
        super().__init__()
        D = shape.width
        self.heads = shape.heads
        self.attention_norm, self.mlp_norm = Norm(D, shape.epsilon), Norm(D, shape.epsilon)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(
        self, x: torch.Tensor, rotation: torch.Tensor, seen: Seen, need_attention: bool = False
    ) -> torch.Tensor | None:
        """Change x (B, T, D) in place; return the attention maps (B, H, T, T) where they are needed."""
        attended, maps = self.attended(x, rotation, seen, need_attention)
        x += attended
        x += self.fed(x)
        return maps

    def attended(
        self, x: torch.Tensor, rotation: torch.Tensor, seen: Seen, need_attention: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What attention adds to x (B, T, D), and its maps (B, H, T, T) where they are needed."""
        dtype = self.qkv.weight.dtype
        q, k, v = self._queries_keys_values(self.attention_norm(x).to(dtype), rotation, seen.dtype)
        maps = None
        if need_attention:
            scores = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
            maps = (scores + seen.hidden).softmax(-1)
            attended = (maps @ v.float()).transpose(1, 2)
        else:
            attended = seen.attended(q, k, v)
        return self.out(attended.flatten(2).to(dtype)), maps

    def fed(self, x: torch.Tensor) -> torch.Tensor:
        """What the feed-forward adds to x (B, T, D)."""
        return self.down(gelu(self.up(self.mlp_norm(x).to(self.up.weight.dtype))))

    def _queries_keys_values(
        self, x: torch.Tensor, rotation: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, H, T, d) each; the neighbouring values of queries and keys (`paired`) turned as complex numbers."""
        D = x.shape[-1]
        qkv = self.qkv(x)
        pairs = torch.view_as_complex(qkv[..., : 2 * D].float().unflatten(-1, (D, 2)))
        pairs *= rotation
        turned = torch.view_as_real(pairs).flatten(-2).to(dtype)
        parts = turned[..., :D], turned[..., D:], qkv[..., 2 * D :].to(dtype)
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)


class Seen:
    """Which tokens attention sees: all but the padding.

    On a CPU each protein attends by itself, which costs no mask and nothing for padding; elsewhere all of a batch
    attend at once behind a mask.

    Parameters
    ----------
    padding
        (B, T), where there is padding.
    dtype
        Of queries, keys and values.
    """

    def __init__(self, padding: torch.Tensor, dtype: torch.dtype):
        self.dtype = dtype
        self.lengths = (~padding).sum(1).tolist() if padding.device.type == "cpu" else None
        self.hidden = torch.zeros(padding.shape, dtype=torch.float32, device=padding.device).masked_fill_(
            padding, -torch.inf
        )[:, None, None]
        self._mask = self.hidden.to(dtype) if padding.any() else None

    def attended(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(B, H, T, d) each in, (B, T, H, d) out, zero at padding where each protein attends by itself."""
        if self.lengths is None or self._mask is None:
            return scaled_dot_product_attention(q, k, v, attn_mask=self._mask).transpose(1, 2)
        out = torch.zeros_like(q.transpose(1, 2))
        for row, length in enumerate(self.lengths):
            own = (part[row : row + 1, :, :length] for part in (q, k, v))
            out[row, :length] = scaled_dot_product_attention(*own)[0].transpose(0, 1)
        return out


class ESM2(nn.Module):
    """Tokens in; residue rows of any layer, token logits and contacts out.

    Parameters
    ----------
    shape
        Its dimensions.
    lacks
        Parameters that the checkpoint did not hold: the language-model head, the contact regression.
    attention
        The precision of attention.
    """

    def __init__(self, shape: Shape, lacks: Collection[str] = (), attention: torch.dtype = torch.float32):
        super().__init__()
        self.shape, self.lacks, self.attention = shape, frozenset(lacks), attention
        d = shape.width // shape.heads
        self.embedding = nn.Parameter(torch.zeros(V, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm, self.head_norm = Norm(shape.width, shape.epsilon), Norm(shape.width, shape.epsilon)
        self.head_dense = nn.Linear(shape.width, shape.width)
        self.head_bias = nn.Parameter(torch.zeros(V))
        self.contact_weight = nn.Parameter(torch.zeros(shape.layers * shape.heads))
        self.contact_bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("frequencies", frequencies(d))

    def forward(
        self, tokens: torch.Tensor, layers: Collection[int] = (), logits: bool = False, contacts: bool = False
    ) -> Output:
        """Run as far as what is asked for needs.

        Parameters
        ----------
        tokens
            (B, T) of the ESM alphabet: BOS, residues, EOS, padding.
        layers
            Layers whose rows are wanted: 0 is the token embedding, the last is taken after the final norm.
        logits, contacts
            Whether these are wanted.

        Raises
        ------
        StateshiftError
            Logits or contacts are wanted and the checkpoint came without what makes them.
        """
        if logits and "head_bias" in self.lacks:
            raise StateshiftError("The checkpoint holds no language-model head, so there are no logits.")
        if contacts and "contact_weight" in self.lacks:
            raise StateshiftError(
                "The checkpoint holds no contact regression: put its NAME-contact-regression.pt beside NAME.pt "
                "(`stateshift data get NAME` fetches both)."
            )
        last = self.shape.layers
        x, padding = self._embedded(tokens)
        found = Output({0: x.clone()} if 0 in layers else {})
        depth = last if logits or contacts else max(layers, default=0)
        seen = Seen(padding, self.attention)
        turned = self._rotation(tokens.shape[1])
        touching = self.contact_bias
        for number, block in enumerate(self.blocks[:depth], start=1):
            maps = block(x, turned, seen, contacts)
            if number in layers and number < last:
                found.rows[number] = x.clone()
            if contacts:
                touching = touching + self._contact_terms(maps, tokens, number)
        if depth == last:
            x = self.norm(x)
        if last in layers:
            found.rows[last] = x
        if logits:
            found.logits = linear(self.head_norm(gelu(self.head_dense(x))), self.embedding, self.head_bias)
        if contacts:
            found.contacts = touching.sigmoid()
        return found

    def _embedded(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, T, D), zero at padding, and where the padding is (B, T)."""
        padding = tokens == PAD
        x = self.embedding[tokens]
        if self.shape.token_dropout:
            masked = tokens == MASK
            share = masked.sum(1).float() / (~padding).sum(1)
            x = x.masked_fill(masked[..., None], 0) * ((1 - MASKED_IN_TRAINING) / (1 - share))[:, None, None]
        return x.masked_fill_(padding[..., None], 0), padding

    def _rotation(self, T: int) -> torch.Tensor:
        return rotation(self.frequencies, T, self.shape.heads)

    def _contact_terms(self, maps: torch.Tensor, tokens: torch.Tensor, number: int) -> torch.Tensor:
        """A layer's part (B, T − 2, T − 2) of the logistic regression on symmetrised, corrected attention.

        The average product correction is that of Dunn et al., Bioinformatics 24, 333 (2008); the regression that of
        Rao et al., ICLR 2021.
        """
        inner = ((tokens != PAD) & (tokens != EOS)).to(maps.dtype)
        maps = (maps * inner[:, None, :, None] * inner[:, None, None, :])[..., 1:-1, 1:-1]
        maps = maps + maps.transpose(-1, -2)
        rows, columns = maps.sum(-1, keepdim=True), maps.sum(-2, keepdim=True)
        maps = maps - rows * columns / maps.sum((-1, -2), keepdim=True)
        H = self.shape.heads
        return torch.einsum("bhij,h->bij", maps, self.contact_weight[(number - 1) * H : number * H])
