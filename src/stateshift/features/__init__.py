"""Where the vectors of genes come from: one file a source, and the table they make."""

from stateshift.features.create import build_features, create_features, read_gene_list
from stateshift.features.fuse import fuse_features
from stateshift.features.registry import FeatureRequest, FeatureSource, feature_source, reads
from stateshift.features.sources.esm2 import resume_file

__all__ = [
    "FeatureRequest",
    "FeatureSource",
    "build_features",
    "create_features",
    "feature_source",
    "fuse_features",
    "read_gene_list",
    "reads",
    "resume_file",
]
