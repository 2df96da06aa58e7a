"""One prediction pair by pair and gene by gene: what the report's explorer and the figures draw."""

from stateshift.evaluation.report.detail.detail import Detail
from stateshift.evaluation.report.detail.files import read_detail
from stateshift.evaluation.report.detail.gene_sets import sets_by_gene
from stateshift.evaluation.report.detail.maps import Map, effect_map, feature_map

__all__ = ["Detail", "Map", "effect_map", "feature_map", "read_detail", "sets_by_gene"]
