"""Wild type and mutants embedded into a store, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stateshift.errors import StateshiftError
from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH
from stateshift.proteins.esm2.models import ProteinModel
from stateshift.proteins.store.fill import Recipe, fill_store
from stateshift.proteins.store.reader import PART, EmbeddingStore


def embed_once(
    esm: ProteinModel,
    store: str | Path,
    sequences: Mapping[str, str],
    levels: tuple[str, ...],
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> EmbeddingStore:
    """The store of these sequences, mean pooled: made, gone on with after a kill, or read where it is whole.

    Raises
    ------
    StateshiftError
        The store is of other sequences, or of another model.
    """
    store, recipe = Path(store), Recipe(levels=levels)
    if not store.exists():
        part = store.with_name(store.name + PART)
        fill_store(esm, part, sequences, recipe, tokens_per_batch=tokens_per_batch).finish(store)
    held = EmbeddingStore(store)
    is_same = held.settings == recipe.settings(esm) and held.levels == levels
    if not is_same or {id: held.sequence(id) for id in held.ids} != dict(sequences):
        held.close()
        raise StateshiftError(f"{store} is of other sequences or another model: choose another folder.")
    return held
