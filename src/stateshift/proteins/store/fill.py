"""A store filled: what is missing in it is embedded, on one device or on many."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError, enough_memory
from stateshift.progress import track
from stateshift.proteins.embedding.batches import (
    TOKENS_PER_BATCH,
    WINDOWS,
    Batch,
    check_budget,
    fewer_tokens,
    padding,
    plan,
)
from stateshift.proteins.embedding.embed import Rows, embed_group
from stateshift.proteins.embedding.pooling import check_pooling
from stateshift.proteins.esm2.models import ProteinModel, checked_layer
from stateshift.proteins.store.writer import StoreWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What is taken of the model, and how.

    Parameters
    ----------
    levels
        ``residue``, ``protein`` or both.
    layer
        Negative ones count from the end.
    pooling
        One of `POOLINGS`.
    weights
        Id → (L,) for the pooling ``weighted``.
    half
        Whether residue rows are stored as float16.

    Raises
    ------
    StateshiftError
        No pooling has the name, there is nothing to pool, or weights and the pooling `weighted` don't come together.
    """

    levels: tuple[str, ...] = ("protein",)
    layer: int = -1
    pooling: str = "mean"
    weights: Mapping[str, np.ndarray] | None = None
    half: bool = False

    def __post_init__(self) -> None:
        check_pooling(self.pooling)
        if "protein" not in self.levels and self.pooling != "mean":
            raise StateshiftError(
                f"The pooling `{self.pooling}` makes protein vectors, and residue rows alone are wanted: leave it out, or "
                "choose --level both."
            )
        if (self.weights is None) != (self.pooling != "weighted"):
            raise StateshiftError("The pooling `weighted` and a table of weights (--weights) go together.")

    def settings(self, esm: ProteinModel) -> dict[str, Any]:
        """All that decides a store's values."""
        settings = {
            "model_sha256": esm.sha256,
            "engine": esm.engine,
            "precision": esm.precision,
            "layer": checked_layer(self.layer, esm.layers),
            "windows": WINDOWS,
        }
        if "protein" in self.levels:
            settings["pooling"] = self.pooling
        if self.weights is not None:
            told = hashlib.sha256()
            for name in sorted(self.weights):
                told.update(f"{name}\n".encode() + np.asarray(self.weights[name], dtype="<f8").tobytes())
            settings["weights_sha256"] = told.hexdigest()
        return settings


def fill_store(
    esm: ProteinModel,
    path: str | Path,
    sequences: Mapping[str, str],
    recipe: Recipe,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    devices: int = 1,
    nodes: int = 1,
) -> StoreWriter:
    """Embed whatever of the sequences is not yet in the store, writing each as soon as it is done.

    Parameters
    ----------
    esm
        The model.
    path
        The unfinished store: begun, or gone on with.
    sequences
        Id → sequence, in the letters of the ESM alphabet.
    recipe
        Levels, layer, pooling.
    tokens_per_batch
        Most tokens in a batch; at least 1,024.
    devices, nodes
        GPUs (or processes, on CPUs) of each machine, and machines; through Lightning where there are several.
        All of them write to the one file, which has to lie where all see it.

    Returns
    -------
    StoreWriter
        With every sequence in it, still open. In processes other than the first, what they see of it.

    Raises
    ------
    StateshiftError
        The store can't be gone on with, or the recipe doesn't fit model or sequences.
    """
    if not sequences:
        raise StateshiftError("There are no sequences to embed.")
    check_budget(tokens_per_batch)
    settings = recipe.settings(esm)
    texts = list(dict.fromkeys(sequences.values()))
    weights = _weights_by_number(recipe, sequences, texts)

    def open_store(alone: bool) -> StoreWriter:
        return StoreWriter(
            path,
            sequences,
            settings,
            model=esm.name,
            width=esm.width,
            levels=recipe.levels,
            half=recipe.half,
            alone=alone,
        )

    def embed(writer: StoreWriter, group: Sequence[Batch]) -> None:
        for number, rows in embed_group(esm, texts, group, settings["layer"]):
            writer.add(number, _values(rows, recipe, weights.get(number)))

    if devices * nodes > 1:
        from stateshift.proteins.store.devices import embed_on_many

        return embed_on_many(esm.network, open_store, embed, lambda w: groups_left(w, tokens_per_batch), devices, nodes)
    writer = open_store(alone=True)
    groups = groups_left(writer, tokens_per_batch)
    with enough_memory(fewer_tokens(tokens_per_batch)):
        for group in track(groups, f"Embedding with {esm.name}", total=len(groups)):
            embed(writer, group)
    return writer


def groups_left(writer: StoreWriter, tokens_per_batch: int) -> list[list[Batch]]:
    """The batches of all sequences that a store still lacks."""
    left = np.flatnonzero(~writer.done)
    kept = len(writer.texts) - len(left)
    if kept:
        logger.info("%s: %d of %d sequences are there already.", writer.path.name, kept, len(writer.texts))
    groups = plan([len(writer.texts[number]) for number in left], tokens_per_batch)
    logger.info("%d sequences to embed; %.1f %% of the tokens are padding.", len(left), 100 * padding(groups))
    return [
        [[piece._replace(protein=int(left[piece.protein])) for piece in batch] for batch in group] for group in groups
    ]


def _values(rows: Rows, recipe: Recipe, weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """What the store keeps of a protein."""
    values = {"residue": rows.residues} if "residue" in recipe.levels else {}
    if "protein" in recipe.levels:
        values["protein"] = rows.pooled(recipe.pooling, weights)
    return values


def _weights_by_number(recipe: Recipe, sequences: Mapping[str, str], texts: Sequence[str]) -> dict[int, np.ndarray]:
    """Weights of the distinct sequences, none of which can have two."""
    if recipe.weights is None:
        return {}
    number_of = {text: number for number, text in enumerate(texts)}
    found: dict[int, np.ndarray] = {}
    for name, sequence in sequences.items():
        if name not in recipe.weights:
            raise StateshiftError(f"`{name}` has no weights for the pooling `weighted`.")
        weights = recipe.weights[name]
        if not np.array_equal(found.setdefault(number_of[sequence], weights), weights):
            raise StateshiftError(f"`{name}` has another id's sequence and other weights: embed them one by one.")
    return found
