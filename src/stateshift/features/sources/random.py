"""Random features: the control experiment, which shows what a model makes of nothing."""

from __future__ import annotations

import hashlib

import numpy as np

from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest, reads


@reads("width", lacking=lambda request: {})
def random_features(request: FeatureRequest) -> FeatureTable:
    """Normal numbers, ``request.width`` a gene, drawn by the gene's name: the same in every table."""
    rows = [
        np.random.default_rng(int.from_bytes(hashlib.sha256(gene.encode()).digest()[:8])).standard_normal(request.width)
        for gene in request.genes
    ]
    vectors = np.array(rows, dtype=np.float32).reshape(len(rows), request.width)
    return FeatureTable(list(request.genes), vectors, {"source": "random", "missing": {}})
