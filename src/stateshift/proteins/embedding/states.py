"""Rows of a layer below the last, BOS and EOS included, kept on disk for training the layers above it.

Letters of shapes: L residues, T tokens of a window, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.progress import track
from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH, plan, windows
from stateshift.proteins.embedding.embed import batch_rows
from stateshift.proteins.esm2.models import ProteinModel
from stateshift.proteins.store.cache import EmbeddingCache
from stateshift.proteins.store.writer import StoreWriter

LINEAR = ("mean", "mean_bos_eos", "cls")
"""Poolings that weigh the rows of all windows, which is what gradients go through."""
BOS, EOS = "<", ">"


class Window(NamedTuple):
    """Rows (T, D) of a stretch of a protein, and what each weighs in the protein's vector (T,)."""

    rows: np.ndarray
    weights: np.ndarray


class FrozenStates:
    """Proteins as rows of one layer, window by window, each computed once on this machine.

    Parameters
    ----------
    folder
        Of the cache (`stateshift.proteins.store.cache.EmbeddingCache`).
    layer
        Whose rows are kept, 0 (the token embedding) to below the last.
    pooling
        One of `LINEAR`.
    model_sha256
        Of the model's checkpoint.
    load
        Loads that model in single precision, once something is lacking.
    """

    def __init__(
        self, folder: str | Path, layer: int, pooling: str, model_sha256: str, load: Callable[[], ProteinModel]
    ):
        if pooling not in LINEAR:
            raise StateshiftError(
                f"The pooling `{pooling}` can't be trained through ESM2's layers: {', '.join(LINEAR)} can."
            )
        self.layer, self.pooling, self._load = layer, pooling, load
        settings = {"model_sha256": model_sha256, "precision": "fp32", "layer": layer, "ends": True}
        self._cache = EmbeddingCache(folder, settings, "residue", lambda path, texts: self._fill(path, texts, settings))

    def ensure(self, sequences: Iterable[str]) -> int:
        """Compute what is lacking of these proteins, and tell of how many windows that was."""
        return self._cache.ensure(text for sequence in sequences for text in _texts(sequence))

    def __getitem__(self, sequence: str) -> list[Window]:
        """A protein's windows, which `ensure` has computed; the weighted sum of all their rows is its vector."""
        rows = [self._cache[text] for text in _texts(sequence)]
        return [Window(*pair) for pair in zip(rows, row_weights(len(sequence), self.pooling))]

    def _fill(self, path: Path, texts: Mapping[str, str], settings: Mapping[str, Any]) -> StoreWriter:
        esm = self._load()
        writer = StoreWriter(path, texts, settings, model=esm.name, width=esm.width, levels=("residue",))
        left = np.flatnonzero(~writer.done)
        stretches = [writer.texts[number].strip(BOS + EOS) for number in left]
        batches = [batch for group in plan([len(s) for s in stretches], TOKENS_PER_BATCH) for batch in group]
        for batch in track(batches, f"States of {esm.name}, layer {self.layer}", total=len(batches)):
            for piece, rows in zip(batch, batch_rows(esm, stretches, batch, self.layer)):
                writer.add(int(left[piece.protein]), {"residue": rows})
        return writer


def row_weights(length: int, pooling: str) -> list[np.ndarray]:
    """What each row of a protein's windows, BOS and EOS included, weighs in its vector: `pool` as a weighted sum.

    A residue is the mean over the windows that hold it, BOS and EOS the means over the windows by their residues.

    Examples
    --------
    >>> row_weights(2, "mean"), row_weights(2, "mean_bos_eos")
    ([array([0. , 0.5, 0.5, 0. ], dtype=float32)], [array([0.25, 0.25, 0.25, 0.25], dtype=float32)])
    """
    spans = windows(length)
    held = np.zeros(length)
    for start, end in spans:
        held[start:end] += 1
    n_rows = {"mean": length, "mean_bos_eos": length + 2, "cls": 1}[pooling]
    found = []
    for start, end in spans:
        of_residues = np.zeros(end - start) if pooling == "cls" else 1 / held[start:end]
        of_end = 0.0 if pooling == "mean" else (end - start) / held.sum()
        ends = of_end, 0.0 if pooling == "cls" else of_end
        found.append((np.concatenate([ends[:1], of_residues, ends[1:]]) / n_rows).astype(np.float32))
    return found


def _texts(sequence: str) -> list[str]:
    """A text for each window, with a letter for each of its rows."""
    return [f"{BOS}{sequence[start:end]}{EOS}" for start, end in windows(len(sequence))]
