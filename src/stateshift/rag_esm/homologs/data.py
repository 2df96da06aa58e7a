"""Training clusters: read from any source, split by cluster, written as a folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.files import written_beside
from stateshift.rag_esm.homologs.clusters import Cluster, read_clusters, write_clusters
from stateshift.rag_esm.homologs.sources import read_source

logger = logging.getLogger(__name__)


def make_data(
    source: str | Path,
    output: str | Path,
    *,
    classes: str | Path | None = None,
    min_members: int = 2,
    max_members: int | None = None,
    max_length: int = 1024,
    val_share: float = 0.1,
    seed: int = 0,
) -> dict[str, int]:
    """Write ``train.jsonl``, ``val.jsonl`` and ``about.json`` into a new folder.

    Whole clusters go to one side or the other, and a validation sequence that a training cluster holds too is left
    out: no validation protein is ever trained on. What its cluster holds besides stays, so where clusters overlap
    relatives of it may be trained on.

    Parameters
    ----------
    source, classes
        See `stateshift.rag_esm.homologs.sources.read_source`.
    output
        The folder.
    min_members, max_members
        Clusters with fewer different sequences are left out and counted; of larger ones members are drawn.
    max_length
        Longer members are left out and counted.
    val_share
        Of the clusters, kept for validation.
    seed
        Draws members and the split.

    Returns
    -------
    dict
        What was written and left out, as in ``about.json``.

    Raises
    ------
    StateshiftError
        Too few clusters remain, or numbers make no sense.
    """
    if min_members < 2 or (max_members is not None and max_members < 2) or not 0 < val_share < 1:
        raise StateshiftError("--min-members and --max-members must be 2 or more and --val-share lie between 0 and 1.")
    rng = np.random.default_rng(seed)
    found = read_source(source, classes)
    short = [_among(c, [i for i, s in enumerate(c.sequences) if len(s) <= max_length]) for c in found]
    small = [c.name for c in short if len(c) < min_members]
    kept = [c for c in short if len(c) >= min_members]
    if small:
        logger.warning(
            "Clusters of fewer than %d members are left out (%d of them): %s.", min_members, len(small), some(small, 5)
        )
    if len(kept) < 2:
        raise StateshiftError(
            f"{source}: two clusters of {min_members} different members or more are needed, and it has {len(kept)}."
        )
    if max_members is not None:
        kept = [_among(c, sorted(rng.permutation(len(c))[:max_members])) for c in kept]
    order = rng.permutation(len(kept))
    held_out = set(order[: max(1, round(val_share * len(kept)))].tolist())
    train = [c for i, c in enumerate(kept) if i not in held_out]
    seen = {sequence for c in train for sequence in c.sequences}
    clean = [
        _among(c, [i for i, s in enumerate(c.sequences) if s not in seen]) for i, c in enumerate(kept) if i in held_out
    ]
    val = [c for c in clean if len(c) >= 2]
    if not train or not val:
        raise StateshiftError(f"{source}: training and validation need a cluster each without a shared sequence.")
    told = {
        "train_clusters": len(train),
        "train_proteins": sum(map(len, train)),
        "val_clusters": len(val),
        "val_proteins": sum(map(len, val)),
        "left_out_small": len(small),
        "left_out_long": sum(map(len, found)) - sum(map(len, short)),
        "left_out_shared": sum(len(kept[i]) for i in held_out) - sum(map(len, val)),
    }
    about = {"source": Path(source).name, "classes": Path(classes).name if classes else None, "seed": seed, **told}
    with written_beside(output) as part:
        part.mkdir()
        write_clusters(train, part / "train.jsonl")
        write_clusters(val, part / "val.jsonl")
        (part / "about.json").write_text(json.dumps(about, indent=2) + "\n")
    return told


def read_data(folder: str | Path) -> tuple[list[Cluster], list[Cluster]]:
    """Training and validation clusters that `make_data` wrote."""
    train, val = data_files(folder)
    return read_clusters(train), read_clusters(val)


def data_files(folder: str | Path) -> tuple[Path, Path]:
    """The files of its training and validation clusters."""
    return Path(folder) / "train.jsonl", Path(folder) / "val.jsonl"


def _among(cluster: Cluster, picked: list[int]) -> Cluster:
    def of(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[i] for i in picked) if values else ()

    return Cluster(cluster.name, of(cluster.ids), of(cluster.sequences), of(cluster.aligned))
