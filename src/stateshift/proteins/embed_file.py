"""A FASTA file in, a file of embeddings out (``stateshift protein embed``)."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stateshift.errors import StateshiftError
from stateshift.files import written_beside
from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH
from stateshift.proteins.embedding.embed import checked_level
from stateshift.proteins.embedding.weights import read_weights
from stateshift.proteins.esm2.models import load_esm2
from stateshift.proteins.fasta import read_sequences
from stateshift.proteins.store.fill import Recipe, fill_store
from stateshift.proteins.store.reader import PART, EmbeddingStore
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

HDF5, PICKLE = (".h5", ".hdf5"), (".pkl", ".pickle")


@dataclass(frozen=True)
class Embedded:
    """What was written: the file, the number of ids and D."""

    path: Path
    ids: int
    width: int


@left_alone()
def embed_fasta(
    fasta: str | Path,
    output: str | Path,
    *,
    level: str = "protein",
    checkpoint: str | None = None,
    layer: int = -1,
    pooling: str = "mean",
    weights: str | Path | None = None,
    engine: str = "stateshift",
    precision: str = "auto",
    half: bool = False,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    devices: int = 1,
    nodes: int = 1,
) -> Embedded | None:
    """Embed the proteins of a FASTA file.

    Until all is done, the output is called ``OUTPUT.part``; the same command goes on with it after a kill.

    Parameters
    ----------
    fasta
        Plain or gzipped.
    output
        ``.h5`` for a store (`EmbeddingStore`), ``.pkl`` for a pickled dict ``{id: {"residue": (L, D),
        "protein": (D,)}}`` of numpy arrays, with the levels that were asked for.
    level
        ``residue``, ``protein`` or ``both``.
    checkpoint, engine, precision
        As for `load_esm2`.
    layer
        0 (the token embedding) to the model's last; negative ones count from the end.
    pooling
        Of the protein level: ``mean`` (over residues), ``mean_bos_eos``, ``cls``, ``max`` or ``weighted``.
    weights
        For ``weighted``: a csv or tsv with columns id, position (1-based), weight.
    half
        Store residue rows as float16.
    tokens_per_batch
        Most tokens in a batch, padding included.
    devices, nodes
        GPUs of each machine, and machines.

    Returns
    -------
    Embedded
        None in processes other than the first of several.

    Raises
    ------
    StateshiftError
        An input can't be used, the output exists, or unfinished work of other settings lies beside it.
    """
    output = Path(output)
    levels = checked_level(level)
    if output.suffix.lower() not in HDF5 + PICKLE:
        raise StateshiftError(f"{output}: name it .h5 (a store) or .pkl (a dict of arrays).")
    if output.exists():
        raise StateshiftError(f"{output} exists already: choose another name.")
    sequences = read_sequences(fasta)
    weighted = None if weights is None else read_weights(weights, sequences)
    recipe = Recipe(levels, layer, pooling, weighted, half)
    esm = load_esm2(checkpoint, engine=engine, precision=precision)
    part = output.with_name(output.name + PART)
    store = fill_store(esm, part, sequences, recipe, tokens_per_batch=tokens_per_batch, devices=devices, nodes=nodes)
    if not store.alone:
        return None
    if output.suffix.lower() in HDF5:
        store.finish(output)
    else:
        store.close()
        _pickled(part, output)
        part.unlink()
    return Embedded(output, len(sequences), esm.width)


def _pickled(part: Path, output: Path) -> None:
    """A store as a pickled dict of numpy arrays."""
    with EmbeddingStore(part) as store, written_beside(output) as beside:
        read = {"residue": store.residue, "protein": store.protein}
        content: Mapping = {name: {level: read[level](name) for level in store.levels} for name in store.ids}
        with open(beside, "wb") as handle:
            pickle.dump(content, handle)
