"""ESM2 features: a gene's vector is the embedding of its protein."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.sources import FeatureRequest
from stateshift.files import sha256
from stateshift.genes import GeneCoverage, GeneNames, proteins_of_genes
from stateshift.proteins import ProteinModel, embed_proteins, load_esm2, read_fasta
from stateshift.proteins.batches import MAX_RESIDUES, WINDOWS
from stateshift.proteins.esm2 import DEMO
from stateshift.proteins.journal import VectorJournal

logger = logging.getLogger(__name__)


def esm2_features(request: FeatureRequest) -> FeatureTable:
    """Embed the genes' proteins with ESM2.

    Unfinished work is kept in ``OUTPUT.resume`` beside the output, with the model's checksum, and a
    later run embeds only the rest; `create_features` removes it once the table is written.

    Raises
    ------
    StateshiftError
        No FASTA is at hand, the model can't be loaded, or genes have no protein and the policy is ``error``.
    """
    fasta = request.fasta or downloaded_proteome()
    if fasta is None:
        raise StateshiftError(
            "ESM2 features need protein sequences: name a UniProt FASTA with --fasta "
            "(or take the vectors of an existing table with --lookup)."
        )
    coverage = _covered(request, fasta)
    request.refuse_missing(coverage.missing, fasta.name)
    esm = load_esm2(request.checkpoint)
    provenance = {
        "source": "esm2",
        "model": esm.name,
        "model_sha256": esm.sha256,
        "layer": esm.layers,
        "pooling": "mean over residues, last layer",
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
        logger.info(
            "The embedded demo model (%s, width %d) makes these features: good for trying out, not for "
            "research; name a published model with --checkpoint.",
            DEMO,
            esm.width,
        )
    vectors = _embedded(esm, coverage, resume_file(request.output))
    return FeatureTable(list(coverage.found), vectors, provenance)


def resume_file(output: Path) -> Path:
    """Where unfinished embeddings of an output are kept."""
    return output.with_name(output.name + ".resume")


def downloaded_proteome() -> Path | None:
    """The reviewed human proteome in ``$STATESHIFT_CACHE`` or ``~/.cache/stateshift``, where it was downloaded."""
    cache = Path(os.environ.get("STATESHIFT_CACHE") or Path.home() / ".cache" / "stateshift")
    named = (cache / "human_reviewed.fasta", cache / "human_reviewed.fasta.gz")
    return next((path for path in named if path.is_file()), None)


def _covered(request: FeatureRequest, fasta: Path) -> GeneCoverage:
    """The genes' proteins, told and reported; genes found by their spelling alone may be another species'."""
    names = GeneNames.from_hgnc(request.aliases) if request.aliases else None
    coverage = proteins_of_genes(request.genes, read_fasta(fasta), str(fasta), names)
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


def _embedded(esm: ProteinModel, coverage: GeneCoverage, resume: Path) -> np.ndarray:
    """Vectors (P, D) of the genes found, those that an earlier run left behind taken from its journal."""
    sequence_of = {gene: protein.sequence for gene, protein in coverage.found.items()}
    journal = VectorJournal(resume, esm.sha256, esm.width)
    to_do = {s: s for s in sequence_of.values() if journal.get(s) is None}
    kept = len(set(sequence_of.values())) - len(to_do)
    if kept:
        logger.info("%d embeddings of an unfinished run are taken up from %s.", kept, resume.name)
    for sequence, vector in embed_proteins(esm, to_do):
        journal.add(sequence, vector)
    rows = [journal.get(sequence) for sequence in sequence_of.values()]
    return np.stack(rows) if rows else np.zeros((0, esm.width), dtype=np.float32)
