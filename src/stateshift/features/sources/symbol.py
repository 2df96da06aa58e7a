"""Gene symbols as features: families and complexes share the stem of their names."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stateshift.feature_table import FeatureTable
from stateshift.features.directions import leading_directions
from stateshift.features.registry import FeatureRequest, reads

ALONE = "no other gene's symbol begins alike"


def genes_without_kin(request: FeatureRequest) -> dict[str, str]:
    """Requested genes whose symbols begin like no other's."""
    of = {gene: set(stems(gene)) for gene in request.genes}
    count = Counter(stem for of_gene in of.values() for stem in of_gene)
    fewest = 2 if len(of) > 1 else 1
    return {gene: ALONE for gene, of_gene in of.items() if not any(count[stem] >= fewest for stem in of_gene)}


@reads("width", lacking=genes_without_kin)
def symbol_features(request: FeatureRequest) -> FeatureTable:
    """Stems of the requested genes' symbols (RPL, RPL1 …) as TF-IDF, reduced to ``request.width`` columns.

    A stem is the beginning of a symbol, two letters or more. Those that two genes share are counted, so a
    gene whose name begins like no other's has no vector.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(analyzer=stems, min_df=2 if len(request.genes) > 1 else 1)
    try:
        counted = words.fit_transform(request.genes)
    except ValueError:
        counted = np.zeros((len(request.genes), 1))
    vectors = leading_directions(counted, request.width)
    shared = np.linalg.norm(vectors, axis=1) > 0
    provenance = {
        "source": "symbol",
        "reduction": "tf-idf of stems, truncated SVD, rows of length one",
        "comparable_rows": True,
    }
    known = [gene for gene, has in zip(request.genes, shared) if has]
    return request.picked(known, vectors[shared], provenance, ALONE)


def stems(symbol: str) -> list[str]:
    """Beginnings of a symbol.

    Examples
    --------
    >>> stems("RPL3")
    ['RP', 'RPL', 'RPL3']
    """
    return [symbol[:n] for n in range(2, len(symbol) + 1)]
