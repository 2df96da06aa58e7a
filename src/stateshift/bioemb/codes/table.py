"""Codes of a feature table: each different vector an entity with a code of its own, saved with its centroids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stateshift.bioemb.codes.quantiser import MAX_LEVELS, SEED, K, Quantiser, fit_quantiser
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.files import intact, read_arrays, written_beside

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Codes:
    """Which code each gene has.

    Parameters
    ----------
    genes
        All that were coded.
    entity
        (genes,) the row of each gene's code: genes with identical vectors share one.
    codes
        (E, T) int16, one row an entity, no two alike. Where levels alone could not tell all apart, the last column is
        the number of an entity among those of the same levels.
    quantiser
        What gives new vectors their levels.
    """

    genes: list[str]
    entity: np.ndarray
    codes: np.ndarray
    quantiser: Quantiser

    @property
    def tokens(self) -> int:
        """How many numbers a code may hold at a position: K, or the most entities of the same levels."""
        return max(self.quantiser.k, int(self.codes.max()) + 1)

    @property
    def numbered(self) -> bool:
        """Whether codes end in a number that tells entities of the same levels apart."""
        return self.codes.shape[1] > self.quantiser.levels

    @property
    def names(self) -> list[str]:
        """The first gene of each entity."""
        _, first = np.unique(self.entity, return_index=True)
        return [self.genes[i] for i in first]

    @property
    def aliases(self) -> dict[str, str]:
        """Gene → the earlier one that has the same vector."""
        names = self.names
        return {gene: names[e] for gene, e in zip(self.genes, self.entity) if names[e] != gene}

    def shuffled(self, seed: int) -> Codes:
        """The same codes dealt to entities at random: what of a result is owed to the codes' meaning."""
        order = np.random.default_rng(seed).permutation(len(self.codes))
        return replace(self, codes=self.codes[order])

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write an ``.npz`` of plain arrays."""
        path = Path(path)
        if path.suffix != ".npz":
            raise StateshiftError(f"{path}: codes are written as .npz, name {path.with_suffix('.npz').name}.")
        with written_beside(path, overwrite) as part:
            np.savez_compressed(
                part,
                genes=np.array(self.genes, dtype=str),
                entity=self.entity,
                codes=self.codes,
                centroids=self.quantiser.centroids,
                errors=np.array(self.quantiser.errors),
            )
        return path

    @classmethod
    def load(cls, path: str | Path) -> Codes:
        """Read codes without executing pickled code.

        Raises
        ------
        StateshiftError
            The file is missing or holds no codes.
        """
        path = Path(path)
        if not path.is_file():
            raise StateshiftError(f"{path}: there are no such codes; `stateshift bioemb codes` makes them.")
        way_out = "Make codes anew."
        held = read_arrays(path, ("genes",), way_out)
        with intact(path, way_out):
            genes, entity, codes, centroids = (held[name] for name in ("genes", "entity", "codes", "centroids"))
            whole = entity.dtype.kind == codes.dtype.kind == "i" and entity.shape == genes.shape and codes.ndim == 2
            if not whole or set(entity.tolist()) != set(range(len(codes))) or codes.min() < 0:
                raise ValueError("its genes, entities and codes don't belong together")
            if centroids.ndim != 3 or not np.isfinite(centroids).all() or codes.shape[1] - len(centroids) not in (0, 1):
                raise ValueError("its centroids aren't those of its codes")
            return cls(genes.tolist(), entity, codes, Quantiser(centroids, tuple(held["errors"].tolist())))


def make_codes(table: FeatureTable, *, k: int = K, max_levels: int = MAX_LEVELS, seed: int = SEED) -> Codes:
    """Codes of every gene of a table; see `fit_quantiser` for the options.

    Raises
    ------
    StateshiftError
        The table holds fewer than `k` different vectors.
    """
    entity, first = merged(table.vectors)
    if len(first) < 2:
        raise StateshiftError(
            f"All vectors of the table are the same ({some(table.genes, 3)}): there is nothing to tell genes apart by."
            if len(table) > 1
            else f"The table holds {some(table.genes) or 'no gene'} alone: a code tells genes apart, two at least."
        )
    if len(first) < len(table):
        logger.info(
            "%d of %d genes have the vector of another and share its code.", len(table) - len(first), len(table)
        )
    constant = int((table.vectors == table.vectors[0]).all(axis=0).sum())
    if constant:
        logger.info("%d of %d columns are the same for every gene and say nothing.", constant, table.width)
    quantiser, levels = fit_quantiser(table.vectors[first], k=k, max_levels=max_levels, seed=seed)
    codes = Codes(table.genes, entity, with_numbers(levels), quantiser)
    if codes.numbered:
        logger.info("%d levels leave codes alike: a last token numbers those.", quantiser.levels)
    return codes


def create_codes(
    table: Path, output: Path, *, k: int = K, max_levels: int = MAX_LEVELS, seed: int = SEED, overwrite: bool = False
) -> Codes:
    """Codes of a table's file, written as ``.npz``.

    Parameters
    ----------
    table
        A feature table (.pt, .csv, .tsv).
    output
        The ``.npz``: genes, entities, codes, centroids, errors a level.
    k, max_levels, seed
        See `fit_quantiser`.
    overwrite
        Replace an existing output.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name, or replace it with --overwrite.")
    codes = make_codes(FeatureTable.load(table), k=k, max_levels=max_levels, seed=seed)
    codes.save(output, overwrite)
    return codes


def merged(vectors: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Which vectors are identical.

    Returns
    -------
    ndarray, list of int
        The entity of each vector, (N,) int32; the first row of each entity, in the order of the vectors.

    Examples
    --------
    >>> merged(np.array([[1.0], [2.0], [1.0]]))
    (array([0, 1, 0], dtype=int32), [0, 1])
    """
    rows: dict[bytes, int] = {}
    # adding zero makes −0 and 0 the same bytes
    entity = np.array([rows.setdefault((row + 0.0).tobytes(), len(rows)) for row in vectors], dtype=np.int32)
    _, first = np.unique(entity, return_index=True)
    return entity, first.tolist()


def with_numbers(levels: np.ndarray) -> np.ndarray:
    """Codes with a last column that numbers those of the same levels, where any are the same.

    Examples
    --------
    >>> with_numbers(np.array([[3, 1], [3, 1], [0, 2]], dtype=np.int16)).tolist()
    [[3, 1, 0], [3, 1, 1], [0, 2, 0]]
    """
    _, group = np.unique(levels, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    if (sizes == 1).all():
        return levels
    number = np.empty(len(levels), dtype=np.int16)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    number[order] = np.arange(len(levels)) - starts
    return np.column_stack([levels, number])


def described(codes: Codes) -> Sequence[str]:
    """What to tell of codes, a line each."""
    last = " and a number" if codes.numbered else ""
    return [
        f"{len(codes.genes):,} names, {len(codes.codes):,} different vectors, each with a code of its own.",
        f"{codes.quantiser.levels} levels of {codes.quantiser.k}{last}; what is left of the variance, level by level: "
        + ", ".join(f"{error:.3f}" for error in codes.quantiser.errors),
    ]
