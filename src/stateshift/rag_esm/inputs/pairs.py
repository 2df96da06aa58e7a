"""Pairs of input and context on disk, as `stateshift rag-esm sample` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stateshift.files import written_beside


class Pair(NamedTuple):
    """An input with ``-`` for masks, its context, and the group it is of."""

    name: str
    masked: str
    context_name: str
    context: str
    group: str


def write_pairs(pairs: Sequence[Pair], folder: str | Path) -> Path:
    """Write ``inputs.fasta``, ``contexts.fasta`` and ``clusters.txt``, line by line of one pair."""
    with written_beside(folder) as part:
        part.mkdir()
        (part / "inputs.fasta").write_text("".join(f">{p.name}\n{p.masked}\n" for p in pairs))
        (part / "contexts.fasta").write_text("".join(f">{p.context_name}\n{p.context}\n" for p in pairs))
        (part / "clusters.txt").write_text("".join(f"{p.group}\n" for p in pairs))
    return Path(folder)
