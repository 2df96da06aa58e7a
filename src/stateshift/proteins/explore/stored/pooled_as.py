"""Which pooling of its residue rows a stored protein vector is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.progress import track
from stateshift.proteins.explore.stored.embeddings import Embeddings

ROUNDING = 16
"""How many units in the last place of the coarser type a recomputed vector may be off, relative to its largest row."""


@dataclass(frozen=True)
class PoolingReport:
    """Every pooling that was tried, and which one the stored vectors are.

    Parameters
    ----------
    differences
        Pooling → largest absolute difference to the stored vectors, the smallest first.
    at
        Pooling → the id where it is.
    tolerance
        The largest difference that rounding explains.
    n_proteins
        Ids that were compared.
    """

    differences: dict[str, float]
    at: dict[str, str]
    tolerance: float
    n_proteins: int

    @property
    def fitting(self) -> list[str]:
        """The poolings that the stored vectors may be: one, or several that give the same, or none of those tried."""
        return [name for name, difference in self.differences.items() if difference <= self.tolerance]


def pooling_of(held: Embeddings, lengths: dict[str, int] | None = None) -> PoolingReport:
    """Recompute protein vectors from residue rows and compare them with the stored ones.

    Tried are mean, sum, largest and smallest value over the residues; where rows of BOS and EOS are there, the same
    over all rows, and each of the two alone; all of them as they are, and scaled to unit length.

    Parameters
    ----------
    held
        Embeddings at both levels.
    lengths
        Id → L, which tells whether BOS and EOS are among the rows; default: the store's own sequences. Where neither
        is known, both readings are tried.

    Raises
    ------
    StateshiftError
        A level is lacking, or no id has rows of length L or L + 2.
    """
    ids = [id for id in held.residues if id in held.proteins]
    if not ids:
        there = " and ".join(held.levels) or "no"
        raise StateshiftError(
            f"{held.where} holds the {there} level alone: pooling is recomputed from residue rows and compared with "
            "protein vectors (stateshift protein embed --level both)."
        )
    lengths = lengths or {id: len(sequence) for id, sequence in held.sequences.items()}
    odd = [id for id in ids if id in lengths and held.residues[id].shape[0] - lengths[id] not in (0, 2)]
    if odd:
        raise StateshiftError(
            f"{held.where}: {len(odd)} ids have neither L nor L + 2 rows ({some(odd)}): compare with inspect --fasta."
        )
    largest: dict[str, tuple[float, str]] = {}
    scale = 0.0
    for id in track(ids, "pooling anew"):
        rows, stored = held.residue(id).astype(np.float64), held.protein(id).astype(np.float64)
        if rows.shape[1:] != stored.shape:
            raise StateshiftError(
                f"{held.where}: `{id}` has rows of width {rows.shape[1]} and a vector of {len(stored)}."
            )
        scale = max(scale, float(np.abs(rows).max()), float(np.abs(stored).max()))
        for name, vector in _poolings(rows, lengths.get(id)).items():
            difference = float(np.abs(vector - stored).max())
            if name not in largest or difference > largest[name][0]:
                largest[name] = (difference, id)
    ordered = dict(sorted(largest.items(), key=lambda item: item[1][0]))
    coarsest = max(np.finfo(_float(a.dtype)).eps for level in (held.residues, held.proteins) for a in level.values())
    return PoolingReport(
        {name: difference for name, (difference, _) in ordered.items()},
        {name: id for name, (_, id) in ordered.items()},
        ROUNDING * float(coarsest) * scale,
        len(ids),
    )


def _poolings(rows: np.ndarray, length: int | None) -> dict[str, np.ndarray]:
    """Every vector (D,) that rows (L, D) or (L + 2, D) may have been pooled into, by its name."""
    found: dict[str, np.ndarray] = {}
    if length is None or len(rows) == length:
        found |= _over(rows, "" if length else " (if rows are residues)")
    if len(rows) > 2 and (length is None or len(rows) == length + 2):
        doubt = "" if length else " (if the rows hold BOS and EOS)"
        found |= _over(rows[1:-1], doubt)
        found |= {f"{name} with BOS and EOS{doubt}": v for name, v in _over(rows, "").items()}
        found |= {f"CLS, the BOS row{doubt}": rows[0], f"the EOS row{doubt}": rows[-1]}
    # a sum scaled to unit length is the mean scaled so
    lengths = {name: float(np.linalg.norm(v)) for name, v in found.items() if not name.startswith("sum")}
    return found | {f"{name}, unit length": found[name] / length for name, length in lengths.items() if length}


def _over(rows: np.ndarray, doubt: str) -> dict[str, np.ndarray]:
    over = {"mean": rows.mean(0), "sum": rows.sum(0), "max": rows.max(0), "min": rows.min(0)}
    return {f"{name}{doubt}": vector for name, vector in over.items()}


def _float(dtype: object) -> np.dtype:
    """The float type of stored values, whatever library holds them."""
    name = str(dtype).removeprefix("torch.")
    return np.dtype(name) if name in ("float16", "float32", "float64") else np.dtype(np.float32)
