"""A token a feature source and one of the context, pooled into the encoding of a perturbation.

Shapes: B sets, S cells a set, K sources, F feature width, H hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stateshift.feature_table import FeatureTable
from stateshift.transition.heads import mlp
from stateshift.transition.means import masked_mean

if TYPE_CHECKING:
    from stateshift.transition.config import TransitionConfig


class SourceEncoder(nn.Module):
    """Tokens of the sources that know the perturbation, and of the control cells, by gated attention.

    A source whose columns are all zero doesn't know the perturbation: its token is masked out, and where no source knows it a
    learnt token stands in. In training each source is left out of a set with probability ``source_dropout``. Tokens
    t of K sources and the context are pooled as

        Σ a(k) t(k),  a = softmax of w · (tanh(V t) ⊙ sigmoid(U t))

    (Ilse et al. 2018, equation 9), and an MLP of ``encoder_layers`` layers follows. Sets that nobody perturbed
    are encoded as zero.

    Parameters
    ----------
    config
        The model's shape; ``source_widths`` says which columns are one source's.
    """

    def __init__(self, config: TransitionConfig):
        super().__init__()
        c = config
        self.widths, self.dropout = list(c.source_widths or (c.features,)), c.source_dropout
        self.projections = nn.ModuleList(nn.Linear(width, c.hidden) for width in self.widths)
        self.context = nn.Linear(c.hidden, c.hidden)
        self.missing = nn.Parameter(torch.randn(c.hidden) * 0.02)
        self.norm = nn.LayerNorm(c.hidden)
        self.value, self.gate = nn.Linear(c.hidden, c.hidden), nn.Linear(c.hidden, c.hidden)
        self.score = nn.Linear(c.hidden, 1, bias=False)
        self.out = mlp(c.hidden, c.hidden, c.hidden, c.encoder_layers, c.dropout)

    def forward(self, batch: dict, p_BF: Tensor, basal_BSH: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Encode each set's perturbation in its context, (B, H)."""
        parts = p_BF.split(self.widths, dim=-1)
        knows_BK = torch.stack([(part != 0).any(dim=-1) for part in parts], dim=1)
        if self.training and self.dropout:
            knows_BK = knows_BK & (torch.rand(knows_BK.shape, device=p_BF.device) >= self.dropout)
        tokens = [projection(part) for projection, part in zip(self.projections, parts, strict=True)]
        tokens.append(self.missing.to(tokens[0].dtype).expand_as(tokens[0]))
        tokens.append(self.context(masked_mean(basal_BSH, mask_BS).to(basal_BSH.dtype)))
        none_B1 = ~knows_BK.any(dim=1, keepdim=True)
        attend_BT = torch.cat([knows_BK, none_B1, torch.ones_like(none_B1)], dim=1)
        pooled_BH = self._pool(self.norm(torch.stack(tokens, dim=1)), attend_BT)
        encoded_BH = self.out(pooled_BH)
        return encoded_BH * ~batch["is_control"][:, None] if "is_control" in batch else encoded_BH

    def _pool(self, t_BTH: Tensor, attend_BT: Tensor) -> Tensor:
        score_BT = self.score(self.value(t_BTH).tanh() * self.gate(t_BTH).sigmoid())[..., 0]
        weight_BT = score_BT.masked_fill(~attend_BT, -torch.inf).softmax(dim=1)
        return torch.einsum("bt,bth->bh", weight_BT, t_BTH)


def source_widths(features: FeatureTable) -> list[int]:
    """Columns of each part of a fused table; none where it is one source, or its columns are mixed.

    Examples
    --------
    >>> parts = [{"columns": [0, 2]}, {"columns": [2, 3]}]
    >>> source_widths(FeatureTable(["A"], [[1, 0, 1]], {"source": "fusion", "parts": parts}))
    [2, 1]
    """
    spans = [part.get("columns") for part in features.provenance.get("parts", [])]
    if not spans or not all(spans):
        return []
    return [stop - start for start, stop in spans]
