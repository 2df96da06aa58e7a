"""Which names train a head, which choose its epoch, and which test it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stateshift.bioemb.downstream.labels import Labels
from stateshift.errors import StateshiftError, suggestion

WAYS = ("random", "grouped", "given")
TEST, VAL = 0.2, 0.1


class Split(NamedTuple):
    """Places of names: (N_train,), (N_val,), (N_test,)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def make_split(labels: Labels, way: str, seed: int) -> Split:
    """Split names by a seed.

    Parameters
    ----------
    labels
        Whose names.
    way
        ``random``: 70 : 10 : 20. ``grouped``: about as many, whole groups together. ``given``: as the file says; where
        it names none to validate with, an eighth of those that train do.
    seed
        Draws it.

    Raises
    ------
    StateshiftError
        The file has no groups or no split, or a side stays empty or without a second class.
    """
    if way not in WAYS:
        raise StateshiftError(f"There is no split `{way}`{suggestion(way, WAYS)}.")
    rng = np.random.default_rng(seed)
    if way == "given":
        split = _given(labels, rng)
    else:
        if way == "grouped" and labels.groups is None:
            raise StateshiftError("A grouped split needs groups: name their column with --group-column.")
        of = labels.groups if way == "grouped" else np.arange(len(labels.names))
        rest, test = _parted(np.arange(len(labels.names)), of, TEST, rng)
        train, val = _parted(rest, of, VAL / (1 - TEST), rng)
        split = Split(train, val, test)
    _check(labels, split, way)
    return split


def _given(labels: Labels, rng: np.random.Generator) -> Split:
    if labels.split is None:
        raise StateshiftError("A given split needs the file's: name its column with --split-column.")
    train, val, test = (np.flatnonzero(labels.split == side) for side in ("train", "val", "test"))
    if not len(val):
        of = labels.groups if labels.groups is not None else np.arange(len(labels.names))
        train, val = _parted(train, of, VAL / (1 - TEST), rng)
    return Split(train, val, test)


def _parted(
    places: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The places, less a share of them in whole groups; and that share."""
    names, group = np.unique(groups[places], return_inverse=True)
    order = rng.permutation(len(names))
    sizes = np.bincount(group)[order]
    # the group that reaches the share is taken if that comes nearer to it
    count = int(np.abs(np.cumsum(sizes) - share * len(places)).argmin()) + 1 if len(names) > 1 else 0
    away = np.isin(group, order[:count])
    return places[~away], places[away]


def _check(labels: Labels, split: Split, way: str) -> None:
    empty = [name for name, side in split._asdict().items() if not len(side)]
    if empty:
        raise StateshiftError(f"The {way} split of {len(labels.names)} names leaves none to {' and '.join(empty)}.")
    if labels.task == "calls" and not _both_answers(labels.values[split.test]).any():
        raise StateshiftError(f"The {way} split leaves no question with both answers to test: more labels are needed.")
    if labels.task in ("binary", "multiclass"):
        single = [name for name in ("train", "test") if len(np.unique(labels.values[getattr(split, name)])) < 2]
        if single:
            raise StateshiftError(
                f"The {way} split leaves one class alone to {' and '.join(single)}: more labels are needed."
            )


def _both_answers(values: np.ndarray) -> np.ndarray:
    """Which questions (C,) have a 0 and a 1 among answers (N, C)."""
    return (values == 0).any(axis=0) & (values == 1).any(axis=0)
