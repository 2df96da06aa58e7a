"""Proteins of genes that a table lacks, embedded as its own were."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stateshift.catalogue import cache_folder
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.genes import GeneNames, proteins_of_genes
from stateshift.proteins import ProteinModel, Recipe, fill_store, load_esm2, read_fasta
from stateshift.proteins.embedding.batches import WINDOWS
from stateshift.proteins.fasta import downloaded_proteome
from stateshift.proteins.store.cache import EmbeddingCache
from stateshift.run import RunDirectory

if TYPE_CHECKING:
    from stateshift.proteins.embedding.states import FrozenStates

logger = logging.getLogger(__name__)

RECORD = "esm.json"
"""Of a run whose encoder reads gene names: what embeds a gene that it lacks."""
SAME_VECTOR = 0.02
"""A vector is the same as another whose difference is this share of it: bf16 and fp32 are."""
ENOUGH = 3
"""Proteins, the shortest, that prove a checkpoint to be the one that a table was made with."""


@dataclass
class GeneEmbedder:
    """ESM2 as a table was made with it, the proteins of the table's genes, and where more are found.

    Parameters
    ----------
    model, model_sha256
        The checkpoint's name and digest, to which it is held whenever it is loaded.
    layer, pooling, precision
        As in the table's provenance.
    checkpoint
        A published name, the demo model's, or a file; None where the model is known by its name and digest alone.
    fasta, aliases
        Where proteins are found, and HGNC's table; without a FASTA the catalogue's proteome, if it was fetched.
    sequences
        Gene → the protein that its vector was made of, or is made of.
    """

    model: str
    model_sha256: str
    layer: int
    pooling: str
    precision: str
    checkpoint: str | None = None
    fasta: Path | None = None
    aliases: Path | None = None
    sequences: dict[str, str] = field(default_factory=dict)

    def embed(self, genes: Sequence[str]) -> tuple[FeatureTable, dict[str, str]]:
        """Vectors of genes by their proteins, each computed once on this machine.

        Returns
        -------
        tuple
            The table of those that have a protein; and, for the others, gene → why not.

        Raises
        ------
        StateshiftError
            The checkpoint is not at hand, or another.
        """
        missing = self.find(genes)
        found = {gene: self.sequences[gene] for gene in genes if gene not in missing}
        if not found:
            return FeatureTable([], np.zeros((0, 0), np.float32)), missing
        computed = self._cache.ensure(found.values())
        logger.info("%s embedded by %s, %d of %d just now", some(found), self.model, computed, len(found))
        return FeatureTable(list(found), np.stack([self._cache[text] for text in found.values()])), missing

    def find(self, genes: Sequence[str]) -> dict[str, str]:
        """Add the proteins of genes to `sequences`; gene → why not, for those that have none.

        A FASTA that has other proteins than the table's for the genes it holds is told of.
        """
        wanted = [gene for gene in genes if gene not in self.sequences]
        if not wanted:
            return {}
        fasta = self.fasta or downloaded_proteome()
        if fasta is None:
            return dict.fromkeys(
                wanted, "no proteins are at hand: name a FASTA, or `stateshift data get uniprot_human`"
            )
        names = GeneNames.from_hgnc(self.aliases) if self.aliases else None
        coverage = proteins_of_genes([*wanted, *self.sequences], read_fasta(fasta, unique=True), str(fasta), names)
        found = {gene: protein.sequence for gene, protein in coverage.found.items()}
        other = [gene for gene, sequence in self.sequences.items() if found.get(gene, sequence) != sequence]
        if other:
            logger.warning(
                "%s has other proteins than the run's for %s, whose vectors stay as they are: is it another version?",
                fasta, some(other),
            )  # fmt: skip
        self.sequences |= {gene: found[gene] for gene in wanted if gene in found}
        return {gene: coverage.missing[gene] for gene in wanted if gene in coverage.missing}

    def load(self, precision: str | None = None) -> ProteinModel:
        """The model.

        Raises
        ------
        StateshiftError
            There is no such checkpoint, or it is another than the table was made with.
        """
        named = self.checkpoint or self.model
        try:
            esm = load_esm2(named, precision=precision or self.precision)
        except StateshiftError as error:
            raise StateshiftError(f"{error} The run needs {self.model}: name its file with --checkpoint.") from error
        if esm.sha256 != self.model_sha256:
            raise StateshiftError(
                f"{named} is another model than the run's {self.model} (SHA-256 {esm.sha256[:12]}… instead of "
                f"{self.model_sha256[:12]}…): name that one with --checkpoint."
            )
        return esm

    def states(self, n_layers: int) -> FrozenStates:
        """Rows below the model's last `n_layers`, computed once on this machine."""
        from stateshift.proteins.embedding.states import FrozenStates

        return FrozenStates(
            _folder(), self.layer - n_layers, self.pooling, self.model_sha256, lambda: self.load(precision="fp32")
        )

    def prove(self, table: FeatureTable) -> None:
        """Raise where the shortest proteins don't give the vectors that a table has for them."""
        genes = sorted((g for g in self.sequences if g in table), key=lambda gene: len(self.sequences[gene]))[:ENOUGH]
        made, _ = self.embed(genes)
        for gene, ours, theirs in zip(genes, made.vectors, table.subset(genes).vectors if genes else ()):
            if ours.shape != theirs.shape or np.linalg.norm(ours - theirs) > SAME_VECTOR * np.linalg.norm(theirs):
                raise StateshiftError(
                    f"{self.model} (layer {self.layer}, pooling {self.pooling}) does not give the table's vector of {gene}: "
                    "name the checkpoint, layer, pooling and fasta that the table was made with in [features]."
                )

    def save(self, run: RunDirectory) -> None:
        """Write `RECORD` into a run, its paths relative to it."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("checkpoint", "fasta", "aliases"):
            if told[name] and Path(told[name]).exists():
                told[name] = os.path.relpath(told[name], run.path)
        run.write_text(RECORD, json.dumps(told, indent=1) + "\n")

    @classmethod
    def of_run(
        cls, run: RunDirectory, *, checkpoint: str | None = None, fasta: str | Path | None = None
    ) -> GeneEmbedder | None:
        """What a run recorded, with another checkpoint or FASTA where they are named; None where it recorded nothing.

        Raises
        ------
        StateshiftError
            The record is damaged, or there is no such FASTA.
        """
        path = run.path / RECORD
        if not path.is_file():
            return None
        try:
            told: dict[str, Any] = json.loads(path.read_text())
            for name in ("fasta", "aliases"):
                beside = run.path / (told[name] or "")
                told[name] = beside if beside.is_file() else None
            if told["checkpoint"] and (run.path / told["checkpoint"]).exists():
                told["checkpoint"] = str(run.path / told["checkpoint"])
            embedder = cls(**told)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateshiftError(f"{path} is damaged: {error}. Copy the run anew, or train again.") from error
        if fasta is not None and not Path(fasta).is_file():
            raise StateshiftError(f"{fasta}: there is no such FASTA file.")
        return replace(
            embedder, checkpoint=checkpoint or embedder.checkpoint, fasta=Path(fasta) if fasta else embedder.fasta
        )

    @cached_property
    def _cache(self) -> EmbeddingCache:
        recipe = Recipe(layer=self.layer, pooling=self.pooling)
        settings = {
            "model_sha256": self.model_sha256, "engine": "stateshift", "precision": self.precision,
            "layer": self.layer, "windows": WINDOWS, "pooling": self.pooling,
        }  # fmt: skip

        def fill(path: Path, texts: Mapping[str, str]) -> Any:
            return fill_store(self.load(), path, texts, recipe)

        return EmbeddingCache(_folder(), settings, "protein", fill)


def _folder() -> Path:
    return cache_folder() / "embeddings"
