"""What is held back of the training cells to validate on, where no validation split is declared."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.cells.regimes import regimes_of
from stateshift.cells.splits import FEWEST_TO_KEEP_BACK
from stateshift.errors import StateshiftError
from stateshift.feature_table import genes_of

logger = logging.getLogger(__name__)

Pair = tuple[str, str]

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


def some_pairs(cells: Cells, split: np.ndarray, held: set[Pair] | None = None) -> np.ndarray:
    """Rows of whole training pairs, new in the way that most test pairs are: those given, else those of `held_pairs`."""
    obs = cells.obs
    of_split = {which: obs[(split == which) & ~cells.is_control] for which in ("train", "test")}
    train, test = ({*zip(of["perturbation"], of["context"])} for of in of_split.values())
    held = held_pairs(train, test) if held is None else held
    logger.info(
        "no validation split: %d of %d training pairs are held back from the network and its backbone, to choose the "
        "checkpoint and whether the network is kept", len(held), len(train),
    )  # fmt: skip
    of_held = pd.MultiIndex.from_frame(obs[["perturbation", "context"]]).isin(held)
    return np.flatnonzero(of_held & (split == "train"))


def held_pairs(train: set[Pair], test: set[Pair]) -> set[Pair]:
    """(perturbation, context) of training pairs that are held back.

    A share of the genes with all their perturbations, in every context; where most test pairs are known perturbations in
    new contexts, each such perturbation in one of its contexts alone. They are the same for every seed of a training, so
    that runs of several are trained on the same pairs and make an ensemble.

    Raises
    ------
    StateshiftError
        There are too few genes for that.
    """
    genes = sorted({gene for p, _ in train for gene in genes_of(p)})
    if len(genes) < FEWEST_GENES:
        raise StateshiftError(
            f"model.start=backbone is kept where it helps on pairs that were held back, and {len(genes)} training genes are "
            f"too few to hold some back ({FEWEST_GENES} at least): declare a validation split, as [fewshot] "
            'val = […] or a cell type as "val" in [zeroshot].'
        )
    rng = np.random.default_rng(0)
    chosen = set(rng.permutation(genes)[: max(FEWEST_GENES // 2, round(HELD_GENES * len(genes)))].tolist())
    held = sorted((p, c) for p, c in train if not chosen.isdisjoint(genes_of(p)))
    asked = sorted(test)
    regimes = Counter(regimes_of([p for p, _ in asked], [c for _, c in asked], train))
    if regimes["C"] > len(asked) / 2:
        contexts = {p: [c for of, c in held if of == p] for p, _ in held}
        held = [(p, of[rng.integers(len(of))]) for p, of in contexts.items() if len(of) > 1]
    if not held or len(held) == len(train):
        raise StateshiftError(
            "No training pairs can be held back and leave others to train on: declare a validation split."
        )
    return set(held)
