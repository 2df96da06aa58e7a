"""One-hot features: a gene's identity and nothing else, so nothing is known of unseen genes."""

from __future__ import annotations

import numpy as np

from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest, reads


@reads(lacking=lambda request: {})
def onehot_features(request: FeatureRequest) -> FeatureTable:
    """Unit vectors in the order of the genes; F is the number of genes."""
    genes = list(request.genes)
    return FeatureTable(genes, np.eye(len(genes), dtype=np.float32), {"source": "onehot", "missing": {}})
