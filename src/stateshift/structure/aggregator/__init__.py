"""Residue rows of a chain or an assembly into one vector."""

from stateshift.structure.aggregator.batches import aggregate
from stateshift.structure.aggregator.checkpoint import TrainedAggregator, load_aggregator, save_aggregator
from stateshift.structure.aggregator.model import Aggregator, AggregatorShape, pad

__all__ = [
    "Aggregator",
    "AggregatorShape",
    "TrainedAggregator",
    "aggregate",
    "load_aggregator",
    "pad",
    "save_aggregator",
]
