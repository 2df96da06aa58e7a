"""Cell sets: S cells of one perturbation beside S matched controls.

Shapes: B sets, S cells a set, G genes, F feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset, get_worker_info

from stateshift.cells.matrix.expression import Expression
from stateshift.cells.population import Cells
from stateshift.cells.pseudobulk import EffectTable
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable


class CellSets(IterableDataset):
    """Batches of B cell sets, in the batch contract that cell-load's loader fills too.

    A group is one (file, context, perturbation), and of one batch where ``by_batch`` asks for it. An epoch cuts
    every group into sets of S different cells; the last set of a group of S or more is filled up with cells
    of the group that are in its other sets, and a group of fewer than S is padded and masked: no cell stands
    in a set twice. Shuffled sets never end: epoch follows epoch, each cut anew. Batch i depends on the
    seed, the rank and i alone, whatever the number of DataLoader workers, so that a resumed training goes on
    with the batch it would have had.

    Controls are drawn from the cell's own file, context and batch; where a batch holds none, from the file and
    context (``n_unmatched`` counts such cells). A set repeats a control only where what is drawn from a pool exceeds
    it, or where cells of a batch without controls share the set with others.

    Parameters
    ----------
    cells
        The cells (n, G).
    keep
        Mask (n,) of the cells to serve. Control cells are served as sets of their own, with zero features.
    features
        Vectors of every perturbation served; a double's is the sum over its set of genes.
    set_size
        S.
    batch_size
        B.
    seed
        Of the shuffles and control draws.
    shuffle
        Reshuffle epoch after epoch without end; else one pass over the same sets every time.
    by_batch
        Whether a set holds the cells of one batch only.
    first_batch
        Where a shuffled pass starts.
    rank, ranks
        Of several processes that share the batches, this one serves every ``ranks``-th.
    batch_names
        The batches (``obs["batch"]``) that a model tells apart; absent, the cells' batches aren't served.
    every_gene
        Whether every gene of the files is served beside the cells (`Cells.every_gene`).
    start
        Effects of every (perturbation, context) served, which a model starts from; absent, none are served.

    Yields
    ------
    dict
        ``pert_cell_emb`` and ``ctrl_cell_emb`` (B, S, G), ``pert_emb`` (B, F) once a set, ``mask`` (B, S)
        true for real cells, ``is_control`` (B,), ``pert_name`` and ``cell_type`` lists of B; with ``batch_names``,
        ``batch`` (B, S), the place among them of each perturbed cell's batch, 0 where there is no cell; with
        ``every_gene``, ``pert_cell_counts`` and ``ctrl_cell_counts`` (B, S, every gene), log1p; with ``start``,
        ``start_effect`` (B, genes of the effects), zero for control cells.
    """

    def __init__(
        self,
        cells: Cells,
        keep: np.ndarray,
        features: FeatureTable,
        *,
        set_size: int,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        by_batch: bool = False,
        first_batch: int = 0,
        rank: int = 0,
        ranks: int = 1,
        batch_names: Sequence[str] = (),
        every_gene: bool = False,
        start: EffectTable | None = None,
    ):
        self.cells, self.set_size, self.batch_size = cells, set_size, batch_size
        self.seed, self.shuffle, self.first_batch = seed, shuffle, first_batch
        self.rank, self.ranks = rank, ranks
        self._every_gene = cells.every_gene.X if every_gene else None
        obs = cells.obs
        place = _codes(obs["file"], obs["context"])
        batch = _codes(place, obs["batch"])
        self._rows = np.flatnonzero(keep)
        self._batch_number = _places(obs["batch"].to_numpy()[self._rows], batch_names) if len(batch_names) else None
        group = _codes(batch if by_batch else place, obs["perturbation"])[self._rows]
        _, first_of_group, self._group = np.unique(group, return_index=True, return_inverse=True)
        self._context = obs["context"].to_numpy()[self._rows[first_of_group]]
        self._perturbation = obs["perturbation"].to_numpy()[self._rows[first_of_group]]
        self._cut_sets()
        self._match_controls(cells.is_control, place, batch)
        self.perturbations = sorted(set(self._perturbation) - {cells.control})
        vectors = features.matrix(self.perturbations)
        self._vectors = torch.from_numpy(np.concatenate([np.zeros((1, features.width), np.float32), vectors]))
        self._start = start
        if start is not None:
            self._start_of_group = self._rows_of_start(start)
        self._vector_of_group = 1 + pd.Index(self.perturbations).get_indexer(self._perturbation)

    def _rows_of_start(self, start: EffectTable) -> np.ndarray:
        """The row of each group's effect; -1 for control cells."""
        row = {pair: r for r, pair in enumerate(zip(start.perturbations, start.contexts))}
        pairs = list(zip(self._perturbation.tolist(), self._context.tolist()))
        absent = sorted({f"{p} / {c}" for p, c in pairs if p != self.cells.control and (p, c) not in row})
        if absent:
            raise StateshiftError(f"There is no effect to start from for {some(absent)}.")
        return np.array([row.get(pair, -1) for pair in pairs])

    @property
    def batches_an_epoch(self) -> int:
        """Batches, over all ranks, until every cell was served."""
        return -(-len(self._set_group) // self.batch_size)

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        share, shares = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self.first_batch + share
        epoch, drawn = -1, None
        while self.shuffle or number * self.ranks + self.rank < self.batches_an_epoch:
            now, b = divmod(number * self.ranks + self.rank, self.batches_an_epoch)
            if now != epoch:
                epoch, drawn = now, self._draw_epoch(now)
            yield self._batch(b, drawn, np.random.default_rng([self.seed, epoch, 1 + b]))
            number += shares

    def _cut_sets(self) -> None:
        """The group of each set, where it starts in its group, and how many cells it has."""
        S = self.set_size
        size = np.bincount(self._group)
        n_sets = -(-size // S)
        self._group_start = np.cumsum(size) - size
        self._set_group = np.repeat(np.arange(len(size)), n_sets)
        nth = np.arange(len(self._set_group)) - np.repeat(np.cumsum(n_sets) - n_sets, n_sets)
        self._set_size = np.minimum(size, S)[self._set_group]
        self._set_start = np.minimum(nth * S, size[self._set_group] - self._set_size)

    def _match_controls(self, is_control: np.ndarray, place: np.ndarray, batch: np.ndarray) -> None:
        """Each served cell's pool of controls: that of its batch, or of its file and context."""
        controls, n_places = np.flatnonzero(is_control), place.max() + 1
        matched = np.isin(batch[self._rows], batch[controls])
        self.n_unmatched = int((~matched).sum())
        self._pool = np.where(matched, n_places + batch[self._rows], place[self._rows])
        member = np.concatenate([place[controls], n_places + batch[controls]])
        order = np.argsort(member, kind="stable")
        self._pool_rows, self._pool_label = np.concatenate([controls, controls])[order], member[order]
        self._pool_size = np.bincount(member, minlength=n_places + batch.max() + 1)
        self._pool_start = np.cumsum(self._pool_size) - self._pool_size
        orphans = self._context[self._group[self._pool_size[self._pool] == 0]]
        if len(orphans):
            raise StateshiftError(f"No control cells in the files of {some(sorted(set(orphans)))}.")

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells shuffled within their groups, sets in their order, and controls shuffled within their pools."""
        rng = np.random.default_rng([self.seed, epoch, 0])
        within = np.lexsort((rng.random(len(self._rows)), self._group))
        order = rng.permutation(len(self._set_group)) if self.shuffle else np.arange(len(self._set_group))
        pools = self._pool_rows[np.lexsort((rng.random(len(self._pool_rows)), self._pool_label))]
        return within, order, pools

    def _batch(self, b: int, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator) -> dict:
        within, order, pools = drawn
        sets = order[b * self.batch_size : (b + 1) * self.batch_size]
        group, size = self._set_group[sets], self._set_size[sets]
        place_BS = (self._group_start[group] + self._set_start[sets])[:, None] + np.arange(self.set_size)
        mask_BS = np.arange(self.set_size) < size[:, None]
        served = within[place_BS[mask_BS]]
        controls = self._draw_controls(np.nonzero(mask_BS)[0], served, pools, rng)
        is_control = self._perturbation[group] == self.cells.control
        more = {}
        if self._batch_number is not None:
            more["batch"] = torch.zeros(mask_BS.shape, dtype=torch.long)
            more["batch"][torch.from_numpy(mask_BS)] = torch.from_numpy(self._batch_number[served])
        if self._every_gene is not None:
            more["pert_cell_counts"] = _gather(self._every_gene, self._rows[served], mask_BS)
            more["ctrl_cell_counts"] = _gather(self._every_gene, controls, mask_BS)
        if self._start is not None:
            rows = self._start_of_group[group]
            more["start_effect"] = torch.from_numpy(np.where(rows[:, None] >= 0, self._start.effects[rows], 0))
        return {
            "pert_cell_emb": _gather(self.cells.X, self._rows[served], mask_BS),
            "ctrl_cell_emb": _gather(self.cells.X, controls, mask_BS),
            "pert_emb": self._vectors[self._vector_of_group[group]],
            "mask": torch.from_numpy(mask_BS),
            "is_control": torch.from_numpy(is_control),
            "pert_name": self._perturbation[group].tolist(),
            "cell_type": self._context[group].tolist(),
            **more,
        }

    def _draw_controls(
        self, of_set: np.ndarray, served: np.ndarray, pools: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A control for each served cell: a run from a random place of its shuffled pool, one run a set and pool."""
        pool = self._pool[served]
        _, draw = np.unique(of_set * len(self._pool_size) + pool, return_inverse=True)
        order = np.argsort(draw, kind="stable")
        starts = np.searchsorted(draw[order], np.arange(draw.max() + 1))
        nth = np.empty(len(draw), int)
        nth[order] = np.arange(len(draw)) - starts[draw[order]]
        offset = (rng.random(draw.max() + 1)[draw] * self._pool_size[pool]).astype(int)
        return pools[self._pool_start[pool] + (offset + nth) % self._pool_size[pool]]


def rows_by_label(labels: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Label → the rows that carry it, labels sorted.

    Examples
    --------
    >>> rows_by_label(np.array(["b", "a", "b"]), np.array([7, 8, 9]))
    {'a': array([8]), 'b': array([7, 9])}
    """
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(rows[order], starts[1:])))


def _gather(X: Expression, rows: np.ndarray, mask_BS: np.ndarray) -> torch.Tensor:
    """Expression of cells laid into their sets, (B, S, G); zero where there is no cell."""
    rows_BS = np.full(mask_BS.shape, -1)
    rows_BS[mask_BS] = rows
    return torch.from_numpy(X.dense(rows_BS.ravel()).reshape(*mask_BS.shape, -1))


def _places(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The place of each cell's batch among those that a model tells apart."""
    places = pd.Index(names).get_indexer(labels)
    if (places < 0).any():
        strange = sorted(set(labels[places < 0]))
        raise StateshiftError(
            f"The model tells batches apart, and no training cell is of {some(strange)}: leave those cells out of the "
            "split, or train without model.batch_encoder and model.batch_token."
        )
    return places


def _codes(first: np.ndarray | pd.Series, second: np.ndarray | pd.Series) -> np.ndarray:
    """A number for each pair of labels, in the order of the labels."""
    a, _ = pd.factorize(first, sort=True)
    b, names = pd.factorize(second, sort=True)
    return pd.factorize(a.astype(np.int64) * (len(names) + 1) + b, sort=True)[0]
