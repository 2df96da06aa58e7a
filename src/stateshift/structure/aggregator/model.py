"""The aggregator: residue rows of a chain or an assembly into one vector.

Shapes: B chains, L residues of one, ΣL of all, D width of the residue rows, H hidden width and that of the vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from stateshift.errors import StateshiftError


@dataclass(frozen=True)
class AggregatorShape:
    """The shape of an aggregator; the defaults are those of the published one.

    Parameters
    ----------
    width
        D, of the residue rows.
    hidden
        H; where it differs from `width`, a linear layer leads from one to the other.
    heads, feedforward, layers
        Of the transformer over residues.
    blocks
        Residual blocks after the sum over residues.
    dropout
        In training, everywhere.
    """

    width: int = 1536
    hidden: int = 1536
    heads: int = 12
    feedforward: int = 3072
    layers: int = 6
    blocks: int = 12
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = {k: getattr(self, k) for k in ("width", "hidden", "heads", "feedforward", "layers", "blocks")}
        low = [name for name, size in sizes.items() if not isinstance(size, int) or size < 1]
        if low:
            raise StateshiftError(f"An aggregator's {' and '.join(low)} must be whole numbers of 1 or more.")
        if self.hidden % self.heads:
            raise StateshiftError(
                f"An aggregator's hidden width {self.hidden} can't be split among {self.heads} heads."
            )
        if not 0 <= self.dropout < 1:
            raise StateshiftError(f"An aggregator's dropout must lie in [0, 1), not {self.dropout}.")

    @classmethod
    def for_width(cls, width: int, hidden: int | None = None, **more: int | float) -> AggregatorShape:
        """The shape for residue rows of a width: heads by `heads_of`, feed-forward twice as wide."""
        hidden = hidden or width
        return cls(width=width, hidden=hidden, heads=heads_of(hidden), feedforward=2 * hidden, **more)


def heads_of(hidden: int) -> int:
    """As many heads as a hidden width can be split among, none narrower than 64; one of a narrower width.

    Examples
    --------
    >>> heads_of(1280), heads_of(480), heads_of(32)
    (20, 6, 1)
    """
    return next(heads for heads in range(max(hidden // 64, 1), 0, -1) if hidden % heads == 0)


PUBLISHED = AggregatorShape()
"""172,442,112 parameters."""


class ResidualBlock(nn.Module):
    """relu(x + lin₂(drop(ln₂(relu(lin₁(drop(ln₁(x))))))))."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H) to (B, H)."""
        return torch.relu_(x + self.block(x))


class Head(nn.Module):
    """Residual blocks and a last linear layer with ReLU: vectors are never negative."""

    def __init__(self, hidden: int, blocks: int, dropout: float):
        super().__init__()
        self.names = [f"block{i}" for i in range(blocks)]
        for name in self.names:
            self.add_module(name, ResidualBlock(hidden, dropout))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H) to (B, H)."""
        for name in self.names:
            x = getattr(self, name)(x)
        return torch.relu_(self.linear(self.dropout(x)))


class Layer(nn.TransformerEncoderLayer):
    """PyTorch's post-norm layer on the rows of many chains end to end: no row is padding, none is masked."""

    def forward(self, rows: Tensor, lengths: list[int]) -> Tensor:
        """(ΣL, H) to (ΣL, H); residues attend to those of their own chain."""
        attention = self.self_attn
        projected = linear(rows, attention.in_proj_weight, attention.in_proj_bias)
        dropout = attention.dropout if self.training else 0.0
        heard = [_attended(chain, attention.num_heads, dropout) for chain in projected.split(lengths)]
        rows = self.norm1(rows + self.dropout1(attention.out_proj(torch.cat(heard))))
        wide = self.dropout(torch.relu_(self.linear1(rows)))
        return self.norm2(rows + self.dropout2(self.linear2(wide)))


class Aggregator(nn.Module):
    """A transformer over residues without positions, their sum, residual blocks.

    State-dict names are those of the published checkpoint; a further ``input`` is there where H differs
    from D. Post-norm, ReLU, no final norm. Vectors are non-negative, so cosines lie in [0, 1].

    Parameters
    ----------
    shape
        Its widths and depths.

    Examples
    --------
    >>> model = Aggregator(AggregatorShape(width=8, hidden=8, heads=2, feedforward=16, layers=1, blocks=1)).eval()
    >>> chains = [torch.randn(5, 8), torch.randn(3, 8)]
    >>> together, alone = model(*pad(chains)), model(chains[1][None])
    >>> torch.allclose(together[1], alone[0], atol=1e-5)
    True
    """

    def __init__(self, shape: AggregatorShape = PUBLISHED):
        super().__init__()
        self.shape = shape
        if shape.width != shape.hidden:
            self.input = nn.Linear(shape.width, shape.hidden)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            Layer(shape.hidden, shape.heads, shape.feedforward, shape.dropout, batch_first=True)
            for _ in range(shape.layers)
        )
        self.embedding = Head(shape.hidden, shape.blocks, shape.dropout)

    def forward(self, rows: Tensor, padded: Tensor | None = None) -> Tensor:
        """Vectors of padded chains.

        Parameters
        ----------
        rows
            (B, L, D).
        padded
            (B, L) bool, True where a row is padding; None where no row is.

        Returns
        -------
        Tensor
            (B, H), non-negative.
        """
        if padded is None:
            padded = torch.zeros(rows.shape[:2], dtype=torch.bool, device=rows.device)
        return self.packed(rows[~padded], (~padded).sum(dim=1).tolist())

    def packed(self, rows: Tensor, lengths: list[int]) -> Tensor:
        """Vectors (B, H) of chains end to end: rows (ΣL, D) and how many belong to each."""
        if rows.shape[-1] != self.shape.width:
            raise StateshiftError(
                f"Residue rows are {rows.shape[-1]} wide and the aggregator takes {self.shape.width}: "
                "use the residue model that it was trained with."
            )
        if self.shape.width != self.shape.hidden:
            rows = self.input(rows)
        for layer in self.transformer.layers:
            rows = layer(rows, lengths)
        return self.embedding(torch.stack([chain.sum(dim=0) for chain in rows.split(lengths)]))


def pad(chains: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (L_b, D) of several chains as (B, L, D), and where it is padding, (B, L)."""
    rows = nn.utils.rnn.pad_sequence(chains, batch_first=True)
    lengths = torch.tensor([len(chain) for chain in chains], device=rows.device)
    return rows, torch.arange(rows.shape[1], device=rows.device)[None] >= lengths[:, None]


def _attended(projected: Tensor, heads: int, dropout: float) -> Tensor:
    """Attention within one chain: queries, keys and values (L, 3 H) to (L, H)."""
    length = len(projected)
    query, key, value = projected.view(1, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    heard = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return heard[0].transpose(0, 1).reshape(length, -1)
