"""ESM2 features: a gene's vector is the embedding of its protein."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256
from stateshift.genes import GeneCoverage, proteins_of_genes
from stateshift.proteins import EmbeddingStore, Recipe, fill_store, load_esm2, read_fasta
from stateshift.proteins.embedding.batches import MAX_RESIDUES, WINDOWS
from stateshift.proteins.embedding.pooling import OF_GENES, check_pooling
from stateshift.proteins.esm2.models import check_layer, checked_layer
from stateshift.proteins.fasta import downloaded_proteome
from stateshift.proteins.store.writer import discard_other

logger = logging.getLogger(__name__)


def genes_without_protein(request: FeatureRequest) -> dict[str, str]:
    """Requested genes without a protein in the FASTA."""
    return _proteins(request, _fasta(request)).missing


@reads("fasta", "checkpoint", "layer", "pooling", "aliases", "coverage", lacking=genes_without_protein)
def esm2_features(request: FeatureRequest) -> FeatureTable:
    """Embed the genes' proteins with ESM2.

    A vector is taken from ``request.layer`` by ``request.pooling`` (`POOLINGS`, without ``weighted``). Unfinished
    work is kept in ``OUTPUT.resume`` beside the output, and a later run of the same settings embeds only the
    rest; `create_features` removes it once the table is written.

    Raises
    ------
    StateshiftError
        No FASTA is at hand, the model can't be loaded or has no such layer, or genes have no protein and the
        policy is ``error``.
    """
    check_options(request.layer, request.pooling, request.checkpoint)
    recipe = Recipe(layer=request.layer, pooling=request.pooling)
    fasta = _fasta(request)
    coverage = _covered(request, fasta)
    request.refuse_missing(coverage.missing, fasta.name)
    esm = load_esm2(request.checkpoint)
    provenance = {
        "source": "esm2",
        "model": esm.name,
        "model_sha256": esm.sha256,
        "layer": checked_layer(request.layer, esm.layers),
        "pooling": request.pooling,
        "precision": esm.precision,
        "windows": WINDOWS,
        "in_windows": [g for g, p in coverage.found.items() if len(p.sequence) > MAX_RESIDUES],
        "fasta": fasta.name,
        "fasta_sha256": sha256(fasta),
        "proteins": {gene: protein.id for gene, protein in coverage.found.items()},
        "matched_by": coverage.by_other_names,
        "passed_over": {gene: list(c.passed_over) for gene, c in coverage.choices.items() if c.passed_over},
        "missing": coverage.missing,
    }
    if esm.is_demo:
        provenance["demo"] = True
    sequences = {gene: protein.sequence for gene, protein in coverage.found.items()}
    if not sequences:
        return FeatureTable([], np.zeros((0, esm.width), dtype=np.float32), provenance)
    unfinished = resume_file(request.output)
    discard_other(unfinished, recipe.settings(esm))
    fill_store(esm, unfinished, sequences, recipe).close()
    with EmbeddingStore(unfinished) as store:
        return FeatureTable(store.ids, store.proteins(), provenance)


def check_options(layer: int, pooling: str, checkpoint: str | None) -> None:
    """Raise where pooling or layer can't be had, before anything is read."""
    check_pooling(pooling, OF_GENES)
    check_layer(layer, checkpoint)


def resume_file(output: Path) -> Path:
    """Where unfinished embeddings of an output are kept."""
    return output.with_name(output.name + ".resume")


def _fasta(request: FeatureRequest) -> Path:
    """The FASTA named, else the one in the catalogue's cache."""
    fasta = request.fasta or downloaded_proteome()
    if fasta is None:
        raise StateshiftError(
            'ESM2 features need protein sequences: name a FASTA with --fasta, in an experiment  fasta = "human.fasta", or '
            "fetch the human proteome (stateshift data get uniprot_human); vectors that exist are read with --lookup."
        )
    return fasta


def _proteins(request: FeatureRequest, fasta: Path) -> GeneCoverage:
    return proteins_of_genes(request.genes, read_fasta(fasta, unique=True), str(fasta), request.names())


def _covered(request: FeatureRequest, fasta: Path) -> GeneCoverage:
    """The genes' proteins, told and reported; genes found by their spelling alone may be another species'."""
    coverage = _proteins(request, fasta)
    logger.info("%d of %d genes have a protein in %s.", len(coverage.found), coverage.total, fasta.name)
    other = coverage.by_other_names
    if other:
        told = some([f"{gene} ({how})" for gene, how in other.items()])
        logger.info("%d of them go by another name there: %s.", len(other), told)
    respelt = [gene for gene, how in other.items() if how.startswith("spelling")]
    if len(respelt) > coverage.total / 2:
        logger.warning(
            "Most genes differ from %s in spelling: is it another species' (%s)?", fasta.name, some(respelt, 3)
        )
    if request.coverage:
        coverage.write_csv(request.coverage)
    return coverage
