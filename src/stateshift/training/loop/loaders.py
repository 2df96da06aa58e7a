"""Loaders of a training's cell sets, and of those that it validates on."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from stateshift.cells import Cells, EffectTable
from stateshift.cells.sets import CellSets, rows_by_label
from stateshift.training.data import TrainingData, batch_names

logger = logging.getLogger(__name__)

DRIFT_SETS = 4
"""Sets of control cells a validation context that tell whether the model moves cells nobody perturbed."""


def training_loader(
    config: dict[str, Any], data: TrainingData, first_batch: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader:
    """A loader of training sets, from a batch on and without end; of several processes, each has its share."""
    keep, start = data.split == "train", None
    if data.starts is not None:
        start = data.starts.training
        keep &= _of_pairs(data.cells, start)
    training = CellSets(
        data.cells, keep, first_batch=first_batch, rank=rank, ranks=ranks, start=start,
        **_shape(config, data),
    )  # fmt: skip
    if training.n_unmatched:
        logger.info(
            "%s training cells are of a batch without controls: theirs are drawn from their file and context",
            f"{training.n_unmatched:,}",
        )
    workers = config["data"]["num_workers"]
    return DataLoader(training, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def validation_loaders(config: dict[str, Any], data: TrainingData) -> tuple[DataLoader, DataLoader]:
    """Loaders of all validation sets, and of control sets of their contexts, at most `DRIFT_SETS` each."""
    controls = _some_controls(data, config["model"]["set_size"], config["seed"])
    sets = (
        CellSets(
            data.cells,
            keep,
            shuffle=False,
            start=data.starts and data.starts.validation,
            **_shape(config, data),
        )
        for keep in (data.split == "val", controls)
    )
    validation, drift = (DataLoader(each, batch_size=None) for each in sets)
    return validation, drift


def _shape(config: dict[str, Any], data: TrainingData) -> dict[str, Any]:
    """What all sets of a training have in common."""
    return {
        "features": data.features_for(config["model"].get("encoder", "table")),
        "set_size": config["model"]["set_size"], "seed": config["seed"],
        "batch_size": config["data"]["batch_size"], "by_batch": config["data"]["by_batch"],
        "batch_names": batch_names(config, data), "every_gene": data.cells.every_gene is not None,
    }  # fmt: skip


def _of_pairs(cells: Cells, table: EffectTable) -> np.ndarray:
    """Mask (n,) of the cells whose perturbation and context a table has."""
    pairs = pd.MultiIndex.from_arrays([table.perturbations, table.contexts])
    return pd.MultiIndex.from_frame(cells.obs[["perturbation", "context"]]).isin(pairs)


def _some_controls(data: TrainingData, set_size: int, seed: int) -> np.ndarray:
    """Mask (n,) of control cells of the contexts that validate, for `DRIFT_SETS` sets each."""
    obs, rng = data.cells.obs, np.random.default_rng(seed)
    place = (obs["file"] + "\x1f" + obs["context"]).to_numpy()
    rows = np.flatnonzero(data.cells.is_control & np.isin(place, np.unique(place[data.split == "val"])))
    mask = np.zeros(len(data.cells), bool)
    for members in rows_by_label(place[rows].astype(str), rows).values():
        mask[rng.permutation(members)[: DRIFT_SETS * set_size]] = True
    return mask
