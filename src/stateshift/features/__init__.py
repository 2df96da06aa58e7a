"""Where the vectors of genes come from: one file a source, and the table they make."""

from stateshift.features.create import build_features, create_features, read_gene_list
from stateshift.features.esm2 import resume_file
from stateshift.features.sources import FeatureRequest, FeatureSource, feature_source
from stateshift.features.table import read_table

__all__ = [
    "FeatureRequest",
    "FeatureSource",
    "build_features",
    "create_features",
    "feature_source",
    "read_gene_list",
    "read_table",
    "resume_file",
]
