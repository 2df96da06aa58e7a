"""What is held back of the training cells to validate on, where no validation split is declared."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np

from stateshift.cells import Cells
from stateshift.cells.regimes import regimes_of
from stateshift.cells.splits import FEWEST_TO_KEEP_BACK
from stateshift.errors import StateshiftError
from stateshift.feature_table import genes_of

logger = logging.getLogger(__name__)

KEPT_BACK = 0.1
"""Share of the training cells that chooses the checkpoint."""

HELD_GENES, FEWEST_GENES = 0.15, 10
"""Share of the training genes whose perturbations are held back whole, and genes at least for that."""


def some_cells(cells: Cells, split: np.ndarray, seed: int) -> np.ndarray:
    """Rows of a tenth of each training group's cells, at least one of every group of four or more."""
    from stateshift.cells.sets import rows_by_label

    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(split == "train")
    group = (cells.obs["file"] + "\x1f" + cells.obs["context"] + "\x1f" + cells.obs["perturbation"]).to_numpy()[rows]
    kept = [
        rng.permutation(members)[: max(1, round(KEPT_BACK * len(members)))]
        for members in rows_by_label(group, rows).values()
        if len(members) >= FEWEST_TO_KEEP_BACK
    ]
    if not kept:
        raise StateshiftError("The training groups are too small to keep a tenth back: declare a validation split.")
    return np.concatenate(kept)


def some_pairs(cells: Cells, split: np.ndarray, seed: int) -> np.ndarray:
    """Rows of whole training pairs, new in the way that most test pairs are.

    A share of the genes with all their perturbations, in every context; where most test pairs are known perturbations in
    new contexts, each such perturbation in one of its contexts alone.

    Raises
    ------
    StateshiftError
        There are too few genes for that.
    """
    obs = cells.obs
    perturbed = np.flatnonzero((split == "train") & ~cells.is_control)
    names, contexts = obs["perturbation"].to_numpy(), obs["context"].to_numpy()
    genes = sorted({gene for p in set(names[perturbed]) for gene in genes_of(p)})
    if len(genes) < FEWEST_GENES:
        raise StateshiftError(
            f"model.start=backbone is kept where it helps on pairs that were held back, and {len(genes)} training genes are "
            f"too few to hold some back ({FEWEST_GENES} at least): declare a validation split, as [fewshot] val = […]."
        )
    rng = np.random.default_rng(seed)
    chosen = set(rng.permutation(genes)[: max(FEWEST_GENES // 2, round(HELD_GENES * len(genes)))].tolist())
    rows = perturbed[[not chosen.isdisjoint(genes_of(p)) for p in names[perturbed]]]
    by_context = _most_are_new_contexts(cells, split)
    if by_context:
        measured = {p: sorted(set(contexts[rows[names[rows] == p]])) for p in sorted(set(names[rows]))}
        held = {p: of[rng.integers(len(of))] for p, of in measured.items() if len(of) > 1}
        rows = rows[[held.get(p) == c for p, c in zip(names[rows], contexts[rows])]]
    if not len(rows) or len(rows) == len(perturbed):
        raise StateshiftError(
            "No training pairs can be held back and leave others to train on: declare a validation split."
        )
    logger.info(
        "no validation split: %d perturbations%s are held back from the network and its backbone, to choose the "
        "checkpoint and whether the network is kept", len(set(names[rows])), " in one context each" if by_context else "",
    )  # fmt: skip
    return rows


def _most_are_new_contexts(cells: Cells, split: np.ndarray) -> bool:
    """Whether most test pairs are known perturbations in new contexts."""
    pairs = {
        which: sorted(set(zip(of["perturbation"], of["context"])))
        for which in ("train", "test")
        for of in [cells.obs[(split == which) & ~cells.is_control]]
    }
    regimes = Counter(regimes_of([p for p, _ in pairs["test"]], [c for _, c in pairs["test"]], pairs["train"]))
    return regimes["C"] > sum(regimes.values()) / 2
