"""Is a table good for anything? The same head on every table and label file."""

from stateshift.bioemb.downstream.head import head_predictions
from stateshift.bioemb.downstream.labels import Labels, read_labels
from stateshift.bioemb.downstream.scores import MEASURES, resamples, scores
from stateshift.bioemb.downstream.splits import Split, make_split

__all__ = ["MEASURES", "Labels", "Split", "head_predictions", "make_split", "read_labels", "resamples", "scores"]
