"""Structures to vectors in Python: residue rows of a chain, and their aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from stateshift.proteins import load_esm2
from stateshift.structure.aggregator import aggregate, load_aggregator
from stateshift.structure.parsing import read_chain, read_chains
from stateshift.structure.pipeline.commands import DEMO_AGGREGATOR
from stateshift.structure.residues import Entry, Esm2Residues


class StructureEmbedding:
    """Residue rows and vectors of protein chains.

    Parameters
    ----------
    aggregator
        Its file; None: the demo aggregator, for trying out.
    checkpoint
        The ESM2 model that it was trained with, as `load_esm2` takes it; None: the demo model.

    Examples
    --------
    >>> model = StructureEmbedding()  # doctest: +SKIP
    >>> residues = model.residue_embedding("1acb.cif", format="mmcif", chain_id="A")  # doctest: +SKIP
    >>> model.aggregate(residues).shape  # doctest: +SKIP
    torch.Size([128])
    """

    def __init__(self, aggregator: str | Path | None = None, checkpoint: str | Path | None = None):
        self.trained = load_aggregator(aggregator or DEMO_AGGREGATOR)
        self.residues = Esm2Residues(load_esm2(checkpoint), self.trained.geometry)
        if aggregator is not None:
            self.trained.refuse_other_rows(self.residues.identity)
        self.trained.model.to(next(self.residues.esm.network.parameters()).device)

    def residue_embedding(
        self,
        path: str | Path,
        format: str = "auto",
        chain_id: str | None = None,
        chain_names: str = "label",
        min_residues: int = 0,
        max_residues: int | None = None,
    ) -> Tensor:
        """Residue rows (L, D) of one chain.

        Parameters
        ----------
        path
            A structure file or an address.
        format
            ``mmcif``, ``pdb`` or ``auto``.
        chain_id
            The chain, by its `chain_names`; None: the first.
        chain_names
            ``label`` or ``author``.
        min_residues, max_residues
            Limits of its length.
        """
        if chain_id is None:
            chain = read_chains(path, format, min_residues=min_residues, max_residues=max_residues)[0]
        else:
            chain = read_chain(
                path, chain_id, chain_names, format, min_residues=min_residues, max_residues=max_residues
            )
        return self.residues.rows([Entry.of_chain(str(path), chain, self.residues.geometry)])[0]

    def sequence_embedding(self, sequence: str) -> Tensor:
        """Residue rows (L, D) of a sequence; not with local geometry."""
        return self.residues.rows([Entry("the sequence", sequence)])[0]

    def aggregate(self, residues: Tensor | Sequence[Tensor]) -> Tensor:
        """The vector (H,) of residue rows (L, D), or vectors (B, H) of several chains' rows."""
        single = isinstance(residues, Tensor)
        vectors = aggregate(self.trained.model, [residues] if single else residues)
        return vectors[0] if single else vectors
