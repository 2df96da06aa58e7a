"""What makes residue rows: ESM2 on the sequence, with local geometry where wished; ESM3 in another interpreter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stateshift.errors import StateshiftError
from stateshift.proteins import ProteinModel
from stateshift.proteins.embedding.batches import plan
from stateshift.proteins.embedding.embed import embed_group
from stateshift.structure.parsing import Chain
from stateshift.structure.residues.geometry import WIDTH, local_geometry


@dataclass(frozen=True, eq=False)
class Entry:
    """A chain ready for a residue model.

    Parameters
    ----------
    name
        What its result is called.
    sequence
        L letters.
    geometry
        (L, 9) from `local_geometry`, where the model wants it.
    backbone
        (L, 3, 3) in Å, where there is a structure.
    """

    name: str
    sequence: str
    geometry: np.ndarray | None = None
    backbone: np.ndarray | None = None

    @classmethod
    def of_chain(cls, name: str, chain: Chain, geometry: bool) -> Entry:
        """An entry of a parsed chain; a CA trace is refused where geometry is wanted."""
        return cls(name, chain.sequence, local_geometry(chain) if geometry else None, chain.backbone)


class ResidueModel(Protocol):
    """Entries in, residue rows (L_b, D) on the CPU out, in their order."""

    width: int
    geometry: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What an aggregator has to be trained on: ``model``, ``model_sha256``, ``geometry``."""

    def rows(self, entries: Sequence[Entry]) -> list[Tensor]:
        """Residue rows of each entry."""


class Esm2Residues:
    """Rows of ESM2's last layer, BOS and EOS left out; local geometry appended where wished.

    Parameters
    ----------
    esm
        The model.
    geometry
        Whether the nine values of `local_geometry` follow the D values of ESM2, times √(D/9).
    """

    def __init__(self, esm: ProteinModel, geometry: bool = False):
        self.esm, self.geometry = esm, geometry
        self.width = esm.width + (WIDTH if geometry else 0)

    @property
    def identity(self) -> dict[str, Any]:
        """Name, checksum, geometry."""
        return {"model": self.esm.name, "model_sha256": self.esm.sha256, "geometry": self.geometry}

    def rows(self, entries: Sequence[Entry]) -> list[Tensor]:
        """Residue rows (L_b, D) or (L_b, D + 9) of each entry."""
        rows = esm2_rows(self.esm, [entry.sequence for entry in entries])
        if not self.geometry:
            return rows
        flat = [entry.name for entry in entries if entry.geometry is None]
        if flat:
            raise StateshiftError(f"`{flat[0]}` has a sequence and no structure: local geometry can't be had.")
        # nine values beside hundreds would be drowned: both parts get the same say in a row's length
        scale = math.sqrt(self.esm.width / WIDTH)
        return [torch.cat([r, scale * torch.from_numpy(e.geometry)], dim=1) for r, e in zip(rows, entries)]


def esm2_rows(esm: ProteinModel, sequences: Sequence[str]) -> list[Tensor]:
    """Rows (L_b, D) float32 of ESM2's last layer for each sequence, in order."""
    rows: dict[int, Tensor] = {}
    for group in plan([len(sequence) for sequence in sequences]):
        for number, made in embed_group(esm, sequences, group, layer=-1):
            rows[number] = torch.from_numpy(made.residues)
    return [rows[number] for number in range(len(sequences))]
