"""A downstream score that follows a training: one split, one head, the bottleneck as it stands."""

from __future__ import annotations

import dataclasses

import numpy as np

from stateshift.bioemb.downstream import MEASURES, Labels, head_predictions, make_split, read_labels, scores
from stateshift.bioemb.model import BioEmb
from stateshift.bioemb.settings import Settings
from stateshift.bioemb.trained import embedded
from stateshift.bioemb.training.recorder import Watch
from stateshift.feature_table import FeatureTable


def downstream_watch(settings: Settings, table: FeatureTable) -> Watch | None:
    """What measures a network on ``downstream.labels``; None where no file is named.

    The split is the file's where it has one, grouped where it has groups, and random otherwise.

    Raises
    ------
    StateshiftError
        The file can't be used with the table.
    """
    named = dataclasses.asdict(settings.downstream)
    path = named.pop("labels")
    if path is None:
        return None
    labels = read_labels(path, **named).among(table.genes, path)
    split = make_split(labels, natural_way(labels), settings.seed)
    vectors = table.subset(labels.names).vectors

    def measure(model: BioEmb) -> dict[str, float]:
        said = head_predictions(embedded(model, vectors), labels, split, settings.seed)
        everyone = np.ones((1, len(split.test)))
        score = scores(labels.task, labels.values[split.test], said, everyone)[0]
        return {f"downstream_{MEASURES[labels.task]}": float(score)}

    return measure


def natural_way(labels: Labels) -> str:
    """``given``, ``grouped`` or ``random``, the first that the file allows."""
    return "given" if labels.split is not None else "grouped" if labels.groups is not None else "random"
