"""The same small head for every table: linear, ReLU, linear.

Letters of shapes: N names, F width of a vector, C outputs.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from stateshift.bioemb.downstream.labels import Labels
from stateshift.bioemb.downstream.splits import Split

HIDDEN = 256
RATE, DECAY, BATCH, EPOCHS = 1e-3, 1e-4, 128, 50


def head_predictions(vectors: np.ndarray, labels: Labels, split: Split, seed: int) -> np.ndarray:
    """Train a head, keep its best epoch by validation loss, and predict the test names.

    Parameters
    ----------
    vectors
        (N, F), in the order of the labels; they are standardised by the training rows.
    labels, split
        What is learned, and from which rows.
    seed
        Of weights and batches.

    Returns
    -------
    ndarray
        (N_test,) scores of ``binary``, values of ``regression``; (N_test, C) scores of the others.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    X = _standardised(vectors, split.train)
    targets, centre, spread = _targets(labels, split.train)
    head = nn.Sequential(nn.Linear(X.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, labels.outputs))
    optimiser = torch.optim.Adam(head.parameters(), lr=RATE, weight_decay=DECAY)
    best, kept = float("inf"), copy.deepcopy(head.state_dict())
    train = torch.from_numpy(split.train)
    for _ in range(EPOCHS):
        for rows in train[torch.randperm(len(train), generator=generator)].split(BATCH):
            optimiser.zero_grad()
            _loss(head(X[rows]), targets[rows], labels.task).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(_loss(head(X[split.val]), targets[split.val], labels.task))
        if loss < best:
            best, kept = loss, copy.deepcopy(head.state_dict())
    head.load_state_dict(kept)
    with torch.no_grad():
        said = head(X[split.test]).double().numpy()
    return said if labels.task in ("multiclass", "calls") else said[:, 0] * spread + centre


def _standardised(vectors: np.ndarray, train: np.ndarray) -> Tensor:
    """(N, F) float32; columns that are constant in training become zero."""
    mean, deviation = vectors[train].mean(axis=0), vectors[train].std(axis=0)
    deviation = np.where(deviation < 1e-6 * max(float(deviation.max()), 1e-30), np.inf, deviation)
    return torch.from_numpy(((vectors - mean) / deviation).astype(np.float32))


def _targets(labels: Labels, train: np.ndarray) -> tuple[Tensor, float, float]:
    """What the head should say, and centre and spread that turn what it says into values."""
    if labels.task == "multiclass":
        return torch.from_numpy(labels.values).long(), 0.0, 1.0
    if labels.task != "regression":
        return torch.from_numpy(labels.values.astype(np.float32)), 0.0, 1.0
    centre, spread = float(labels.values[train].mean()), float(labels.values[train].std()) or 1.0
    return torch.from_numpy(((labels.values - centre) / spread).astype(np.float32)), centre, spread


def _loss(said: Tensor, targets: Tensor, task: str) -> Tensor:
    if task == "multiclass":
        return cross_entropy(said, targets)
    if task == "regression":
        return mse_loss(said[:, 0], targets)
    if task == "binary":
        return binary_cross_entropy_with_logits(said[:, 0], targets)
    known = ~targets.isnan()
    return binary_cross_entropy_with_logits(said[known], targets[known])
