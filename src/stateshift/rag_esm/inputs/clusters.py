"""Fully masked inputs as long as the members of a cluster, beside a member as context."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.rag_esm.homologs.clusters import read_clusters
from stateshift.rag_esm.inputs.pairs import Pair, write_pairs


def cluster_inputs(
    clusters: str | Path, output: str | Path, *, per_cluster: int = 1, most_clusters: int | None = None, seed: int = 0
) -> list[Pair]:
    """Write ``inputs.fasta``, ``contexts.fasta`` and ``clusters.txt`` (a name a line) into a new folder.

    Parameters
    ----------
    clusters
        A file of clusters, as ``val.jsonl`` of `make_data`.
    output
        The folder.
    per_cluster
        Pairs of each cluster; the length of an input is that of a member drawn for it, the context another draw.
    most_clusters
        As many clusters are drawn; all if left out.
    seed
        Draws them.

    Raises
    ------
    StateshiftError
        Numbers under 1, or clusters that can't be read.
    """
    if per_cluster < 1 or (most_clusters is not None and most_clusters < 1):
        raise StateshiftError("--per-cluster and --most-clusters must be 1 or more.")
    rng = np.random.default_rng(seed)
    found = read_clusters(clusters)
    picked = sorted(rng.permutation(len(found))[:most_clusters]) if most_clusters else range(len(found))
    pairs = []
    for cluster in (found[i] for i in picked):
        for number in range(per_cluster):
            length = len(cluster.sequences[rng.integers(len(cluster))])
            shown = int(rng.integers(len(cluster)))
            name = f"{cluster.name}_{number + 1}" if per_cluster > 1 else cluster.name
            pairs.append(Pair(name, "-" * length, cluster.ids[shown], cluster.sequences[shown], cluster.name))
    write_pairs(pairs, output)
    return pairs
