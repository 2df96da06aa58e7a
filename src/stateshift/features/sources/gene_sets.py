"""Gene sets as features: genes of the same rare sets point the same way."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.directions import leading_directions
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256

logger = logging.getLogger(__name__)

READS = "gene sets (.gmt)"


def genes_in_no_set(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that no set of two or more holds."""
    path = request.file(READS)
    held = set().union(*_sets(path).values())
    return request.matched(sorted(held), f"in none of the gene sets of {path.name}", request.names())[1]


@reads("lookup", "width", "aliases", lacking=genes_in_no_set)
def gene_set_features(request: FeatureRequest) -> FeatureTable:
    """Gene sets (GMT: GO, Reactome, CORUM …) as TF-IDF, reduced to ``request.width`` columns.

    A gene is a document and its sets are the words, so that sharing a rare set counts for more than sharing a
    common one (scikit-learn's `TfidfTransformer`). All genes of the file are reduced together: a gene's vector
    doesn't depend on which others are asked for. Sets of one gene tell nothing and are left out.

    Raises
    ------
    StateshiftError
        No GMT is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    path = request.file(READS)
    sets = _sets(path)
    genes = sorted(set().union(*sets.values()))
    row = {gene: i for i, gene in enumerate(genes)}
    places = np.array([(row[gene], j) for j, members in enumerate(sets.values()) for gene in members]).T
    held = csr_matrix((np.ones(places.shape[1], dtype=np.float32), tuple(places)), shape=(len(genes), len(sets)))
    logger.info("%s: %d sets of %d genes.", path.name, len(sets), len(genes))
    vectors = leading_directions(TfidfTransformer().fit_transform(held), request.width)
    provenance = {
        "source": "gene_sets",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "sets": len(sets),
        "reduction": "tf-idf, truncated SVD, rows of length one",
        "comparable_rows": True,
    }
    return request.picked(genes, vectors, provenance, f"in none of the gene sets of {path.name}", request.names())


def _sets(path: Path) -> dict[str, set[str]]:
    sets = {name: genes for name, genes in read_gmt(path).items() if len(genes) > 1}
    if not sets:
        raise StateshiftError(f"{path}: no set has two genes, and sets of one tell nothing.")
    return sets


def read_gmt(path: Path) -> dict[str, set[str]]:
    """Sets by name, of a GMT file: name, description and genes, separated by tabs.

    Raises
    ------
    StateshiftError
        The file is missing or no text.
    InputProblems
        Lines without a gene, or a set's name twice, with their lines.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StateshiftError(f"{path} can't be read as gene sets: it is no text file, or is missing.") from error
    sets: dict[str, set[str]] = {}
    short, twice = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = {gene for gene in rest[1:] if gene}
        if not genes:
            short.append(str(number))
        if name in sets:
            twice.append(f"{name} (line {number})")
        sets[name] = genes
    problems = []
    if short:
        problems.append(f"lines without a gene: {some(short)}; name, description and genes are separated by tabs.")
    if twice:
        problems.append(f"sets that occur twice: {some(twice)}.")
    if not sets:
        problems.append("it is empty.")
    if problems:
        raise InputProblems(str(path), problems)
    return sets
