"""Every single mutant of a protein."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH
from stateshift.proteins.esm2.models import ProteinModel
from stateshift.proteins.explore.mutants.calls import call_mutant
from stateshift.proteins.explore.mutants.comparison import cosines, third_of
from stateshift.proteins.explore.mutants.embedding import embed_once
from stateshift.proteins.explore.mutants.likelihood import masked_marginals

AMINO_ACIDS = "GAVLIMFWPSTCYNQHDEKR"
"""The twenty, from small and hydrophobic to polar and charged: the order of a heat map's rows."""


def single_mutants(sequence: str) -> dict[str, str]:
    """Every sequence that differs in one residue, under names as ``A12V``; 19 · L of the twenty amino acids.

    Examples
    --------
    >>> mutants = single_mutants("MK")
    >>> len(mutants), mutants["K2R"]
    (38, 'MR')
    """
    return {
        f"{residue}{position}{other}": sequence[: position - 1] + other + sequence[position:]
        for position, residue in enumerate(sequence, start=1)
        for other in AMINO_ACIDS
        if other != residue
    }


def scan_mutants(
    esm: ProteinModel,
    sequence: str,
    store: str | Path,
    *,
    score: bool = False,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> pd.DataFrame:
    """Embed every single mutant, and say how far each moved.

    Parameters
    ----------
    esm
        The model.
    sequence
        The wild type.
    store
        A ``.h5`` file for the protein vectors (mean over residues). After a kill the same call goes on with it; one
        that is whole is read and nothing is embedded.
    score
        Add the masked-marginal log-likelihood (`masked_marginals`).
    tokens_per_batch
        Most tokens in a batch.

    Returns
    -------
    pandas.DataFrame
        One row a mutant: ``id`` (as ``A12V``), ``change`` (HGVS p.), ``position``, ``wt``, ``mutant``, ``third``,
        ``cosine`` and ``distance`` (L2) to the wild type, and ``score``.

    Raises
    ------
    StateshiftError
        The store is of another protein or model, or can't be written.
    """
    mutants = single_mutants(sequence)
    with embed_once(esm, store, {"WT": sequence, **mutants}, ("protein",), tokens_per_batch) as held:
        vectors = held.proteins().astype(np.float64)
    table = pd.DataFrame({"id": list(mutants)})
    calls = [call_mutant(sequence, mutant) for mutant in mutants.values()]
    table["change"] = [call.hgvs for call in calls]
    table["position"] = [call.position for call in calls]
    table["wt"] = [call.changes[0].wt for call in calls]
    table["mutant"] = [call.changes[0].mutant for call in calls]
    table["third"] = [third_of(call.position, len(sequence)) for call in calls]
    table["cosine"] = cosines(vectors[1:], vectors[0])
    table["distance"] = np.linalg.norm(vectors[1:] - vectors[0], axis=1)
    if score:
        table["score"] = masked_marginals(esm, sequence, calls, tokens_per_batch)
    return table


def as_matrix(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of a scan as (20, L): rows `AMINO_ACIDS`, columns positions, NaN where the wild type stands."""
    return table.pivot(index="mutant", columns="position", values=column).reindex(index=list(AMINO_ACIDS))
