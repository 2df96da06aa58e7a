"""3D structures in, a vector per chain or assembly out: parser, residue rows, aggregator, training, search."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stateshift.structure.embedding import StructureEmbedding

__all__ = ["StructureEmbedding"]


def __getattr__(name: str) -> object:
    """`StructureEmbedding` when it is asked for: reading structures alone needs no torch."""
    if name == "StructureEmbedding":
        from stateshift.structure.embedding import StructureEmbedding

        return StructureEmbedding
    raise AttributeError(name)
