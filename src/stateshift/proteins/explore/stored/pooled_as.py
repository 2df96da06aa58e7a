"""Which pooling of its residue rows a stored protein vector is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.progress import track
from stateshift.proteins.explore.stored.embeddings import Embeddings

NOT_FROM_RESIDUES = {
    "cls": "the row of BOS",
    "mean_bos_eos": "the rows of BOS and EOS",
    "weighted": "the weights",
}
"""What poolings of `stateshift protein embed` need beside the residue rows that it keeps."""


@dataclass(frozen=True)
class PoolingReport:
    """Every pooling that was tried, and which one the stored vectors are.

    Parameters
    ----------
    beyond_rounding
        Pooling → the difference to the stored vectors over what rounding explains there, the largest of all ids and
        columns; up to 1, the pooling may be it. Those come first, the others by their differences.
    differences
        Pooling → the largest absolute difference to the stored vectors.
    at
        Pooling → the id where that is.
    n_proteins
        Ids that were compared.
    stated
        The pooling that the file itself names, where it names one.
    """

    beyond_rounding: dict[str, float]
    differences: dict[str, float]
    at: dict[str, str]
    n_proteins: int
    stated: str | None = None

    @property
    def fitting(self) -> list[str]:
        """The poolings that the stored vectors may be: one, or several that give the same, or none of those tried."""
        return [name for name, times in self.beyond_rounding.items() if times <= 1]

    @property
    def verdict(self) -> str:
        """What the stored vectors are, in words."""
        if self.fitting:
            return " or ".join(self.fitting)
        if self.stated in NOT_FROM_RESIDUES:
            return (
                f"{self.stated}, as the file says of itself; its residue rows can't show it, since they are without "
                f"{NOT_FROM_RESIDUES[self.stated]}"
            )
        return f"none of these poolings, nearest is {next(iter(self.differences))}"


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
    beyond: dict[str, float] = {}
    for id in track(ids, "pooling anew"):
        rows, stored = held.residue(id).astype(np.float64), held.protein(id).astype(np.float64)
        if rows.shape[1:] != stored.shape:
            raise StateshiftError(
                f"{held.where}: `{id}` has rows of width {rows.shape[1]} and a vector of {len(stored)}."
            )
        kinds = [np.finfo(_float(array.dtype)) for array in (held.residues[id], held.proteins[id])]
        coarsest = max(kinds, key=lambda kind: kind.eps)
        for name, pooled in _poolings(rows, lengths.get(id)).items():
            difference = np.abs(pooled.vector - stored)
            times = float((difference / pooled.rounding(coarsest, len(rows))).max())
            beyond[name] = max(beyond.get(name, 0.0), times)
            largest[name] = max(
                largest.get(name, (-1.0, id)), (float(difference.max()), id), key=lambda found: found[0]
            )
    ordered = sorted(beyond, key=lambda name: (beyond[name] > 1, largest[name][0]))
    return PoolingReport(
        {name: beyond[name] for name in ordered},
        {name: largest[name][0] for name in ordered},
        {name: largest[name][1] for name in ordered},
        len(ids),
        held.pooling,
    )


class _Pooled(NamedTuple):
    """A vector (D,) and, column by column, how large the values were that went into it."""

    vector: np.ndarray
    magnitude: np.ndarray

    def rounding(self, kind: np.finfo, rows: int) -> np.ndarray:
        """What a stored vector (D,) may be off.

        Storing rounds rows and vector by half a unit in the last place each; whoever pooled them may have summed as
        many terms in single precision.
        """
        summed = (rows + len(self.vector)) * np.finfo(np.float32).eps
        return (float(kind.eps) + summed) * self.magnitude + float(kind.tiny)

    def to_unit_length(self) -> _Pooled:
        """The vector scaled to length 1; an error in its length moves every column."""
        length = np.linalg.norm(self.vector)
        vector = self.vector / length
        return _Pooled(vector, (self.magnitude + np.abs(vector) * np.linalg.norm(self.magnitude)) / length)


def _poolings(rows: np.ndarray, length: int | None) -> dict[str, _Pooled]:
    """Every vector (D,) that rows (L, D) or (L + 2, D) may have been pooled into, by its name."""
    found: dict[str, _Pooled] = {}
    if length is None or len(rows) == length:
        found |= _over(rows, "" if length else " (if rows are residues)")
    if len(rows) > 2 and (length is None or len(rows) == length + 2):
        doubt = "" if length else " (if the rows hold BOS and EOS)"
        found |= _over(rows[1:-1], doubt)
        found |= {f"{name} with BOS and EOS{doubt}": v for name, v in _over(rows, "").items()}
        found |= {
            f"{name}{doubt}": _Pooled(row, np.abs(row))
            for name, row in (("CLS, the BOS row", rows[0]), ("the EOS row", rows[-1]))
        }
    # a sum scaled to unit length is the mean scaled so
    scaled = {name: p.to_unit_length() for name, p in found.items() if not name.startswith("sum") and p.vector.any()}
    return found | {f"{name}, unit length": pooled for name, pooled in scaled.items()}


def _over(rows: np.ndarray, doubt: str) -> dict[str, _Pooled]:
    mean, largest = np.abs(rows).mean(0), np.abs(rows).max(0)
    over = {
        "mean": _Pooled(rows.mean(0), mean),
        "sum": _Pooled(rows.sum(0), mean * len(rows)),
        "max": _Pooled(rows.max(0), largest),
        "min": _Pooled(rows.min(0), largest),
    }
    return {f"{name}{doubt}": pooled for name, pooled in over.items()}


def _float(dtype: object) -> np.dtype:
    """The float type of stored values, whatever library holds them."""
    name = str(dtype).removeprefix("torch.")
    return np.dtype(name) if name in ("float16", "float32", "float64") else np.dtype(np.float32)
