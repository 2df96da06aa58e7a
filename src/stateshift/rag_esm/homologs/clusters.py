"""Clusters of homologs and their file: JSON lines, one cluster a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.files import written_beside
from stateshift.proteins.fasta import LETTERS

KEYS = ("name", "ids", "sequences", "aligned")


@dataclass(frozen=True)
class Cluster:
    """Proteins that are related to each other.

    Parameters
    ----------
    name
        Of the cluster.
    ids, sequences
        Its N members, without gaps.
    aligned
        Where they come from an alignment: its columns, each row of one length with ``-`` for gaps, insertions left
        out; empty otherwise.
    """

    name: str
    ids: tuple[str, ...]
    sequences: tuple[str, ...]
    aligned: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def distinct(cluster: Cluster) -> Cluster:
    """The cluster with one member for each sequence, the first of its twins."""
    first: dict[str, int] = {}
    for number, sequence in enumerate(cluster.sequences):
        first.setdefault(sequence, number)
    kept = list(first.values())

    def of(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(values[i] for i in kept) if values else ()

    return Cluster(cluster.name, of(cluster.ids), of(cluster.sequences), of(cluster.aligned))


def write_clusters(clusters: Iterable[Cluster], path: str | Path) -> Path:
    """Write clusters, one JSON object a line with the keys name, ids, sequences, aligned."""
    with written_beside(path) as part, part.open("w", encoding="utf-8") as handle:
        for cluster in clusters:
            handle.write(json.dumps(asdict(cluster)) + "\n")
    return Path(path)


def read_clusters(path: str | Path) -> list[Cluster]:
    """Read what `write_clusters` wrote.

    Raises
    ------
    StateshiftError
        The file is missing or holds none.
    InputProblems
        Lines that are no clusters.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file of clusters: `stateshift rag-esm data` makes one.")
    clusters, problems = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise StateshiftError(f"{path} is no file of clusters: it isn't text.") from error
    for number, line in enumerate(lines, start=1):
        try:
            told = json.loads(line)
            cluster = Cluster(told["name"], *(tuple(map(str, told[key])) for key in KEYS[1:]))
            if len({len(cluster.ids), len(cluster.sequences), len(cluster.aligned) or len(cluster.ids)}) > 1:
                raise ValueError("ids, sequences and aligned differ in number")
            if strange := sorted(set().union(*cluster.sequences) - LETTERS):
                raise ValueError(f"sequences hold {some(map(repr, strange))}, no amino acid in capital letters")
            clusters.append(cluster)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problems.append(f"line {number} is no cluster: {error}.")
    if problems or not clusters:
        raise InputProblems(str(path), problems[:20] or ["it is empty."])
    return clusters
