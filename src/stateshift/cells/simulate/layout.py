"""Which cell of a simulated experiment has which context, target and batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.errors import StateshiftError

LEAST = 2
CONTROL_SHARE = 0.1
TARGET_SPREAD, GROUP_SPREAD, BATCH_SHARE_SPREAD = 0.5, 0.3, 0.3


@dataclass
class Layout:
    """Row numbers of every cell's context, target (−1: control) and batch, (n,) each, batch after batch."""

    context: np.ndarray
    target: np.ndarray
    batch: np.ndarray

    def __len__(self) -> int:
        return len(self.context)


def draw_layout(contexts: int, targets: int, batches: int, cells: int, rng: np.random.Generator) -> Layout:
    """Uneven groups: log-normal in size, a tenth of the cells controls, controls of each context in each batch.

    Raises
    ------
    StateshiftError
        There are too few cells for two in every group.
    """
    needed = LEAST * contexts * (targets + batches)
    if cells < needed:
        raise StateshiftError(
            f"{cells:,} cells are too few for {contexts} contexts of {targets} targets, and controls in {batches} batches, "
            f"at {LEAST} cells a group: ask for {needed:,} or more."
        )
    n_controls = int(
        np.clip(round(CONTROL_SHARE * cells), LEAST * contexts * batches, cells - LEAST * contexts * targets)
    )
    popular = TARGET_SPREAD * rng.standard_normal(targets)
    weights = np.exp(popular + GROUP_SPREAD * rng.standard_normal((contexts, targets)))
    share = np.exp(BATCH_SHARE_SPREAD * rng.standard_normal(batches))
    sizes = apportion(cells - n_controls, weights.ravel())
    controls = apportion(n_controls, np.tile(share, contexts))

    group, place = np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.arange(len(controls)), controls)
    context = np.concatenate([group // targets, place // batches])
    target = np.concatenate([group % targets, np.full(n_controls, -1)])
    drawn = rng.choice(batches, len(group), p=share / share.sum())
    batch = np.concatenate([drawn, place % batches])
    order = np.lexsort((rng.random(cells), batch))
    return Layout(context[order], target[order], batch[order])


def apportion(total: int, weights: np.ndarray, least: int = LEAST) -> np.ndarray:
    """Whole numbers that sum to `total`, at least `least` each, the rest in proportion to the weights.

    Examples
    --------
    >>> apportion(10, np.array([1.0, 1.0, 2.0]))
    array([3, 3, 4])
    """
    exact = (total - least * len(weights)) * weights / weights.sum()
    sizes = np.floor(exact).astype(int)
    sizes[np.argsort(sizes - exact, kind="stable")[: total - least * len(weights) - sizes.sum()]] += 1
    return sizes + least
