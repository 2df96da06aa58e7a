"""Transformer blocks over a set: no positions, so permuting the cells permutes the output.

Shapes: B sets, S cells a set, H hidden width, N heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019), eps 1e-6."""

    def __init__(self, hidden: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, h: Tensor) -> Tensor:
        """Normalise the last axis of (..., H)."""
        return F.rms_norm(h.to(self.weight.dtype), self.weight.shape, self.weight, eps=1e-6).to(h.dtype)


def attention(q_BNSD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor, attend: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √D) v over the keys that ``attend`` marks true, or all, (B, N, S, D)."""
    if q_BNSD.device.type != "cpu" or q_BNSD.dtype not in (torch.bfloat16, torch.float16):
        return F.scaled_dot_product_attention(q_BNSD, k_BNSD, v_BNSD, attn_mask=attend)
    # in half precision on a CPU, torch's fused kernel takes three times as long as the products one by one
    score_BNSS = (q_BNSD * q_BNSD.shape[-1] ** -0.5) @ k_BNSD.transpose(-1, -2)
    if attend is not None:
        score_BNSS = score_BNSS.masked_fill(~attend, -torch.inf)
    return score_BNSS.softmax(dim=-1, dtype=q_BNSD.dtype) @ v_BNSD


class SetAttention(nn.Module):
    """Self-attention among the cells of a set, both ways, without biases or positions.

    ``alone``, each cell attends to itself: its weight there is one, so queries and keys have no say and
    there are none.
    """

    def __init__(self, hidden: int, heads: int, alone: bool = False):
        super().__init__()
        self.heads, self.alone = heads, alone
        if not alone:
            self.q_proj, self.k_proj = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.v_proj, self.o_proj = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)

    def forward(self, h_BSH: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Mix cells; a masked (padding) cell is attended by none."""
        if self.alone:
            return self.o_proj(self.v_proj(h_BSH))
        B, S, H = h_BSH.shape
        q, k, v = (
            proj(h_BSH).view(B, S, self.heads, H // self.heads).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend = None if mask_BS is None else mask_BS[:, None, None, :]
        mixed = attention(q, k, v, attend)
        return self.o_proj(mixed.transpose(1, 2).reshape(B, S, H))


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020), without biases."""

    def __init__(self, hidden: int, width: int):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(hidden, width, bias=False), nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Map (..., H) to (..., H)."""
        return self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Block(nn.Module):
    """One pre-norm layer: attention among cells, then the feed-forward, each added to its input."""

    def __init__(self, hidden: int, heads: int, ffn: int, alone: bool = False):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(hidden), RMSNorm(hidden)
        self.self_attn, self.mlp = SetAttention(hidden, heads, alone), GatedFeedForward(hidden, ffn)

    def forward(self, h_BSH: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Map (B, S, H) to (B, S, H)."""
        h_BSH = h_BSH + self.self_attn(self.input_layernorm(h_BSH), mask_BS)
        return h_BSH + self.mlp(self.post_attention_layernorm(h_BSH))


class SetTransformer(nn.Module):
    """A stack of blocks and a final norm, initialised as Llama is (normal, 0.02).

    With ``checkpointing`` set, blocks are computed again in the backward pass, for less memory.
    """

    def __init__(self, hidden: int, layers: int, heads: int, ffn: int, alone: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(Block(hidden, heads, ffn, alone) for _ in range(layers))
        self.norm = RMSNorm(hidden)
        self.checkpointing = False
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, h_BSH: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Map (B, S, H) to (B, S, H); ``mask_BS`` is true for real cells."""
        for layer in self.layers:
            if self.checkpointing and self.training:
                h_BSH = checkpoint(layer, h_BSH, mask_BS, use_reentrant=False)
            else:
                h_BSH = layer(h_BSH, mask_BS)
        return self.norm(h_BSH)
