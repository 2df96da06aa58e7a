"""From bottleneck vectors back to entities: only those that exist can be named.

Letters of shapes: B entities asked about, b width of the bottleneck, W beams, E entities there are, T tokens of a code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stateshift.bioemb.codes import Trie
from stateshift.bioemb.model.losses import masked
from stateshift.bioemb.model.network import BioEmb
from stateshift.errors import StateshiftError


class Named(NamedTuple):
    """Entities that were named, the likeliest first, with the natural logarithms of their probabilities: (B, W) each.

    Where fewer entities exist than beams, the entity is −1 and the logarithm −∞.
    """

    entities: Tensor
    log_likelihoods: Tensor


class Decoder:
    """A network with the trie that it may not leave.

    Parameters
    ----------
    model
        In evaluation mode while it decodes.
    trie
        Of the codes that it was trained on.
    """

    def __init__(self, model: BioEmb, trie: Trie):
        self.model = model.eval()
        device = model.mean.device
        self.children = torch.from_numpy(trie.children).long().to(device)
        self.entity = torch.from_numpy(trie.entity).long().to(device)
        self.nodes = torch.from_numpy(trie.nodes).long().to(device)
        self.targets = torch.from_numpy(trie.targets).to(device)

    @torch.no_grad()
    def greedy(self, embedded: Tensor) -> Tensor:
        """The entities (B,) reached by taking the likeliest allowed token each time; ``embedded`` is (B, b)."""
        return self.beam(embedded, 1).entities[:, 0]

    @torch.no_grad()
    def beam(self, embedded: Tensor, width: int = 5) -> Named:
        """The `width` likeliest entities that a beam search finds for each bottleneck vector (B, b)."""
        if width < 1:
            raise StateshiftError(f"A beam search needs a beam or more, not {width}.")
        B, W, V = len(embedded), width, self.children.shape[1]
        said = embedded.new_full((B, W, 1), self.model.shape.bos, dtype=torch.long)
        node = embedded.new_zeros((B, W), dtype=torch.long)
        # all beams start alike: only the first may go on, or each would be found W times
        score = embedded.new_full((B, W), -torch.inf)
        score[:, 0] = 0
        memory = embedded.repeat_interleave(W, dim=0)
        for _ in range(self.model.shape.length):
            may = self.children[node] >= 0
            if (may.sum(-1) > 1).any():
                logits = self.model.logits(memory, said.flatten(0, 1))[:, -1]
                following = self._log_shares(logits, node.flatten()).view(B, W, V)
            else:  # where no beam has a choice, the network has nothing to say
                following = torch.zeros_like(score)[..., None].masked_fill(~may, -torch.inf)
            score, place = (score[..., None] + following).flatten(1).topk(W, dim=1)
            token, parent = place % V, place // V
            said = torch.cat([said.gather(1, parent[..., None].expand_as(said)), token[..., None]], dim=2)
            # a beam without a way on keeps −∞ and stands anywhere
            node = self.children[node.gather(1, parent), token].clamp_min(0)
        found = torch.where(score.isfinite(), self.entity[node], -1)
        return Named(found, score)

    @torch.no_grad()
    def log_likelihoods(self, embedded: Tensor, batch: int = 2048) -> Tensor:
        """The logarithm of every entity's probability for each bottleneck vector, (B, E); over E they sum to one.

        Parameters
        ----------
        embedded
            (B, b).
        batch
            Codes a pass.
        """
        rows = []
        for memory in embedded:
            parts = []
            for targets, nodes in zip(self.targets.split(batch), self.nodes.split(batch)):
                logits = self.model.logits(memory.expand(len(targets), -1), self.model.before(targets))
                shares = self._log_shares(logits, nodes)
                parts.append(shares.gather(-1, targets[..., None])[..., 0].sum(dim=1))
            rows.append(torch.cat(parts))
        return torch.stack(rows)

    def _log_shares(self, logits: Tensor, node: Tensor) -> Tensor:
        """Logarithms of the probabilities of the tokens that may follow a node; −∞ for the others."""
        allowed = self.children[node] >= 0
        shares = masked(logits, allowed).log_softmax(-1)
        return torch.where(allowed, shares, -torch.inf)
