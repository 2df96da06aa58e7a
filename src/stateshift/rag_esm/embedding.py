"""Embeddings of proteins that are read beside their homologs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from stateshift.errors import StateshiftError, some
from stateshift.files import refuse_output, written_beside
from stateshift.progress import track
from stateshift.proteins.embedding.batches import windows
from stateshift.proteins.fasta import read_sequences
from stateshift.rag_esm.homologs.retrieval import find_homologs
from stateshift.rag_esm.model.checkpoint import TrainedRagESM, load_rag_esm
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

LONGEST_CONTEXT = 1022


def embed_with_contexts(
    trained: TrainedRagESM, sequences: Mapping[str, str], contexts: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Residue rows (L, D) float32 of each protein after the decoder's final norm, the mean over its contexts.

    A protein of more than 1,022 residues is read in overlapping windows, a residue being the mean over those that
    hold it; of a longer context the first 1,022 residues are read.

    Parameters
    ----------
    trained
        The model.
    sequences
        Name → sequence.
    contexts
        Name → its homologs, one at least.

    Raises
    ------
    StateshiftError
        A protein has no context.
    """
    without = [name for name in sequences if not contexts.get(name)]
    if without:
        raise StateshiftError(
            f"Proteins without a homolog to be read beside ({len(without)} of {len(sequences)}): {some(without)}; leave "
            "them out (`stateshift rag-esm homologs` writes the others to a proteins.fasta), or look in a larger "
            "--database."
        )
    long = [name for name in sequences if max(map(len, contexts[name])) > LONGEST_CONTEXT]
    if long:
        logger.warning("Of contexts longer than %d residues the rest is not read: %s.", LONGEST_CONTEXT, some(long, 5))
    network = trained.network
    device = network.esm.embedding.device
    for name, sequence in track(sequences.items(), f"Embedding with {trained.name}", total=len(sequences)):
        total, held = np.zeros((len(sequence), network.esm.shape.width)), np.zeros((len(sequence), 1))
        with torch.inference_mode():
            read = network.encode(tokens_of([c[:LONGEST_CONTEXT] for c in contexts[name]]).to(device))
            for start, end in windows(len(sequence)):
                tokens = tokens_of([sequence[start:end]] * len(contexts[name])).to(device)
                total[start:end] += network(tokens, read)[:, 1:-1].float().mean(0).cpu().numpy()
                held[start:end] += 1
        yield name, (total / held).astype(np.float32)


@left_alone()
def embed_fasta(
    checkpoint: str | Path,
    fasta: str | Path,
    output: str | Path,
    *,
    database: str | Path,
    by: str = "alignment",
    contexts: int = 1,
    level: str = "protein",
    device: str | None = None,
) -> dict[str, list[str]]:
    """Embed the proteins of a FASTA beside their homologs in another, into a ``.npz``: id → array.

    Parameters
    ----------
    checkpoint
        See `load_rag_esm`.
    fasta, database
        The proteins and where their homologs are looked for; never a protein itself nor its twin.
    output
        The ``.npz``.
    by
        See `find_homologs`; ``embedding`` by the checkpoint's own ESM2.
    contexts
        Homologs a protein, whose rows are averaged; fewer where there are no more.
    level
        ``protein``: (D,), the mean over residues; ``residue``: (L, D).
    device
        As torch names it.

    Returns
    -------
    dict
        Id → the names of its homologs.

    Raises
    ------
    StateshiftError
        Proteins without a homolog, all named; an unknown level; an output that exists.
    """
    if level not in ("protein", "residue") or Path(output).suffix != ".npz":
        raise StateshiftError("--level is protein or residue, and --output ends in .npz.")
    refuse_output(output)
    sequences, among = read_sequences(fasta), read_sequences(database)
    trained = load_rag_esm(checkpoint, device)
    found = find_homologs(sequences, among, by=by, top_k=contexts, checkpoint=trained.esm)
    with written_beside(output) as part:
        shown = {name: [hit.sequence for hit in hits] for name, hits in found.items()}
        rows = embed_with_contexts(trained, sequences, shown)
        np.savez(part, **{name: value if level == "residue" else value.mean(0) for name, value in rows})
    return {name: [hit.name for hit in hits] for name, hits in found.items()}
