"""Batches of proteins and contexts within a token budget; which ones is decided by seed and number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from stateshift.errors import StateshiftError
from stateshift.rag_esm.homologs.choice import Contexts
from stateshift.rag_esm.homologs.clusters import Cluster
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.rag_esm.training.masking import IGNORED, diffusion_rate, masked
from stateshift.rag_esm.training.settings import Settings


class Batch(NamedTuple):
    """Masked proteins (B, T), what is to be predicted (B, T), contexts (B, C), and the share that is hidden."""

    tokens: torch.Tensor
    targets: torch.Tensor
    contexts: torch.Tensor
    rate: float


def cropped(sequence: str, longest: int, rng: np.random.Generator) -> str:
    """The sequence, or a window of it at random."""
    start = rng.integers(max(len(sequence) - longest, 0) + 1)
    return sequence[start : start + longest]


class Batches(IterableDataset):
    """Training batches from number `start`; the same numbers give the same batches, so that a resume goes on.

    An epoch shows one member of every cluster beside a context; proteins of like length share a batch.

    Parameters
    ----------
    clusters
        To train on.
    settings
        Of the training.
    start, stop
        Numbers of the first batch and behind the last, on each process.
    rank, world
        Of several processes each takes every `world`-th batch.
    """

    def __init__(
        self, clusters: Sequence[Cluster], settings: Settings, start: int, stop: int, rank: int = 0, world: int = 1
    ):
        self.clusters = [c for c in clusters if len(set(c.sequences)) > 1]
        if not self.clusters:
            raise StateshiftError("No cluster has two different sequences: there is nothing to show as a context.")
        self.settings, self.start, self.stop, self.rank, self.world = settings, start, stop, rank, world
        self.contexts = Contexts(settings.context, settings.top_k)

    def __iter__(self) -> Iterator[Batch]:
        number = epoch = 0
        first, last = self.start * self.world, self.stop * self.world
        while number < last:
            for pairs in self._epoch(epoch):
                if first <= number < last and number % self.world == self.rank:
                    yield self._batch(pairs, np.random.default_rng([self.settings.seed, 1, number]))
                number += 1
            epoch += 1

    def __len__(self) -> int:
        return self.stop - self.start

    def _epoch(self, epoch: int) -> list[list[tuple[str, str]]]:
        """Pairs of protein and context by batch, in the order they are shown."""
        rng = np.random.default_rng([self.settings.seed, 0, epoch])
        pairs = []
        for cluster in self.clusters:
            member = int(rng.integers(len(cluster)))
            context = cluster.sequences[self.contexts.draw(cluster, member, rng)]
            own = cropped(cluster.sequences[member], self.settings.max_length, rng)
            pairs.append((own, cropped(context, self.settings.max_context, rng)))
        batches = within_budget(sorted(pairs, key=lambda pair: len(pair[0])), self.settings.tokens_per_batch)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _batch(self, pairs: list[tuple[str, str]], rng: np.random.Generator) -> Batch:
        rate = self.settings.mask_rate if self.settings.masking == "mlm" else diffusion_rate(rng)
        tokens, targets = masked(tokens_of([own for own, _ in pairs]), rate, rng)
        hidden = (targets != IGNORED).sum().item() / sum(len(own) for own, _ in pairs)
        return Batch(tokens, targets, tokens_of([context for _, context in pairs]), hidden)


def within_budget(pairs: Sequence[tuple[str, str]], budget: int) -> list[list[tuple[str, str]]]:
    """Pairs in their order, as many a batch as the padded tokens of both sides allow; one at least.

    Examples
    --------
    >>> within_budget([("MK", "MA"), ("MKV", "MAVL"), ("MKVLAG", "M")], budget=24)
    [[('MK', 'MA'), ('MKV', 'MAVL')], [('MKVLAG', 'M')]]
    """
    batches: list[list[tuple[str, str]]] = []
    longest = [0, 0]
    for pair in pairs:
        grown = [max(a, len(side) + 2) for a, side in zip(longest, pair)]
        if batches and (len(batches[-1]) + 1) * sum(grown) <= budget:
            batches[-1].append(pair)
            longest = grown
        else:
            batches.append([pair])
            longest = [len(side) + 2 for side in pair]
    return batches
