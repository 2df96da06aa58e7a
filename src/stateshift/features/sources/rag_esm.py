"""RAG-ESM features: a gene's vector is the embedding of its protein, read beside homologs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256
from stateshift.genes import GeneCoverage, proteins_of_genes
from stateshift.proteins import read_fasta
from stateshift.proteins.esm2.models import DEMO
from stateshift.proteins.fasta import downloaded_proteome, read_sequences

logger = logging.getLogger(__name__)

CONTEXTS = 3


def genes_without_protein(request: FeatureRequest) -> dict[str, str]:
    """Requested genes without a protein in the FASTA."""
    return _proteins(request, _fasta(request)).missing


@reads(
    "lookup",
    "fasta",
    "checkpoint",
    "aliases",
    lacking=genes_without_protein,
    later="genes whose protein has no homolog",
)
def rag_esm_features(request: FeatureRequest) -> FeatureTable:
    """Embed the genes' proteins beside the homologs most alike to them; the mean over residues and homologs.

    ``request.lookup`` is a FASTA of sequences among which homologs are looked for by alignment, the three most alike
    to a protein; itself and its twins are none. ``request.fasta`` tells the genes' proteins, ``request.checkpoint``
    is a trained RAG-ESM.

    Raises
    ------
    StateshiftError
        A FASTA or the checkpoint is not named or can't be used; genes have no protein, or their protein no homolog,
        and the policy is ``error``.
    """
    from stateshift.rag_esm.embedding import embed_with_contexts
    from stateshift.rag_esm.homologs.retrieval import find_homologs
    from stateshift.rag_esm.model.checkpoint import load_rag_esm

    lookup = request.file("a FASTA of homologs")
    fasta = _fasta(request)
    coverage = _proteins(request, fasta)
    request.refuse_missing(coverage.missing, fasta.name)
    trained = load_rag_esm(request.checkpoint)  # before hours of aligning
    database = read_sequences(lookup)
    sequences = {gene: protein.sequence for gene, protein in coverage.found.items()}
    homologs = find_homologs(sequences, database, top_k=CONTEXTS)
    lonely = {gene: f"its protein has no homolog in {lookup.name}" for gene, hits in homologs.items() if not hits}
    missing = {**coverage.missing, **lonely}
    request.refuse_missing(missing, lookup.name)
    found = {gene: hits for gene, hits in homologs.items() if hits}
    rows = embed_with_contexts(
        trained,
        {gene: sequences[gene] for gene in found},
        {gene: [h.sequence for h in hits] for gene, hits in found.items()},
    )
    vectors = {gene: values.mean(0) for gene, values in rows}
    provenance = {
        "source": "rag_esm",
        "model": trained.name,
        "model_sha256": trained.sha256,
        "base": trained.base,
        "lookup": lookup.name,
        "lookup_sha256": sha256(lookup),
        "fasta": fasta.name,
        "fasta_sha256": sha256(fasta),
        "proteins": {gene: coverage.found[gene].id for gene in found},
        "contexts": {gene: [h.name for h in hits] for gene, hits in found.items()},
        "matched_by": coverage.by_other_names,
        "missing": missing,
    }
    if trained.base.get("model") == DEMO:
        provenance["demo"] = True
        logger.info("The model is made of the embedded demo ESM2: good for trying out, not for research.")
    width = trained.network.esm.shape.width
    stacked = np.stack(list(vectors.values())) if vectors else np.zeros((0, width), dtype=np.float32)
    return FeatureTable(list(vectors), stacked, provenance)


def _fasta(request: FeatureRequest) -> Path:
    """The FASTA named, else the one in the catalogue's cache, once a trained model is named too."""
    fasta = request.fasta or downloaded_proteome()
    if fasta is None or request.checkpoint is None:
        raise StateshiftError(
            "RAG-ESM features need the genes' proteins (--fasta, UniProt's) and a trained model (--checkpoint, a folder "
            "of `stateshift rag-esm train`), in an experiment [features] fasta and checkpoint."
        )
    return fasta


def _proteins(request: FeatureRequest, fasta: Path) -> GeneCoverage:
    return proteins_of_genes(request.genes, read_fasta(fasta, unique=True), str(fasta), request.names())
