"""Which member of a cluster is shown beside another."""

from __future__ import annotations

import numpy as np

from stateshift.errors import StateshiftError, suggestion
from stateshift.rag_esm.homologs.alignment import hamming, identity
from stateshift.rag_esm.homologs.clusters import Cluster

CHOICES = ("random", "nearest", "nearest-tenth", "top-k", "exponential")
MOST_RANKED = 20_000_000
"""Members in all rankings that are kept: 80 MB; the oldest make way."""


class Contexts:
    """Draws contexts for members of clusters; a member never gets itself, nor a twin of one sequence.

    Parameters
    ----------
    choice
        ``random``: any other member; ``nearest``: the most alike; ``nearest-tenth``: one of the most alike tenth;
        ``top-k``: one of the `top_k` most alike; ``exponential``: the member of rank r = 0, 1, … with a chance that
        falls as exp(−r / `top_k`).
    top_k
        Of the last two.
    """

    def __init__(self, choice: str = "random", top_k: int = 10):
        if choice not in CHOICES:
            raise StateshiftError(f"There is no context choice `{choice}`{suggestion(choice, CHOICES)}.")
        if top_k < 1:
            raise StateshiftError(f"top_k of the context choice must be 1 or more, not {top_k}.")
        self.choice, self.top_k = choice, top_k
        self._ranked: dict[tuple[str, int], np.ndarray] = {}
        self._held = 0

    def draw(self, cluster: Cluster, member: int, rng: np.random.Generator) -> int:
        """The number of another member.

        Raises
        ------
        StateshiftError
            All members are the same sequence.
        """
        own = cluster.sequences[member]
        others = [i for i, sequence in enumerate(cluster.sequences) if sequence != own]
        if not others:
            raise StateshiftError(f"Cluster `{cluster.name}` has no other sequence than `{cluster.ids[member]}`.")
        if self.choice == "random":
            return int(rng.choice(others))
        ranked = self.ranked(cluster, member)
        if self.choice == "exponential":
            chances = np.exp(-np.arange(len(ranked)) / self.top_k)
            return int(rng.choice(ranked, p=chances / chances.sum()))
        among = {"nearest": 1, "nearest-tenth": -(-len(ranked) // 10), "top-k": self.top_k}[self.choice]
        return int(rng.choice(ranked[:among]))

    def ranked(self, cluster: Cluster, member: int) -> np.ndarray:
        """All other sequences of the cluster, the most alike first: by aligned columns, or by pairwise alignment."""
        key = cluster.name, member
        if key not in self._ranked:
            own = cluster.sequences[member]
            others = np.array([i for i, sequence in enumerate(cluster.sequences) if sequence != own], dtype=np.int32)
            if cluster.aligned:
                distance = hamming(cluster.aligned, member)[others]
            else:
                distance = np.array([-identity(own, cluster.sequences[i]) for i in others])
            self._held += len(others)
            while self._ranked and self._held > MOST_RANKED:
                self._held -= len(self._ranked.pop(next(iter(self._ranked))))
            self._ranked[key] = others[np.argsort(distance, kind="stable")]
        return self._ranked[key]
