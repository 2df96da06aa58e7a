"""Pairs of chains in, a trained aggregator out."""

from stateshift.structure.training.pairs import Pairs, class_pairs, read_pairs, tm_pairs
from stateshift.structure.training.train import TrainingSettings, train_aggregator

__all__ = ["Pairs", "TrainingSettings", "class_pairs", "read_pairs", "tm_pairs", "train_aggregator"]
