"""Cell sets: S perturbed cells of one group beside S matched controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset

from stateshift.cells.population import Cells
from stateshift.feature_table import FeatureTable


class CellSets(IterableDataset):
    """Batches of B cell sets, in the batch contract that cell-load's loader fills too.

    A group is one (file, context, perturbation). An epoch cuts every group into sets of at most S cells;
    a group's last set, or a short group, is padded and masked, so that no cell is repeated. Shuffled sets
    never end: epoch follows epoch, each reshuffled, and batch i depends on the seed and i alone, so that a
    resumed training goes on with the batch it would have had. Controls are drawn from the cell's own file, context and batch; where a batch holds no
    control, from the file and context.

    Parameters
    ----------
    cells
        The cells (n, G), log1p.
    keep
        Mask (n,) of the perturbed cells to serve.
    features
        Vectors of every perturbation served.
    set_size
        S.
    batch_size
        B.
    seed
        Of the shuffles and control draws.
    shuffle
        Reshuffle epoch after epoch without end; else one pass over the same sets every time.
    first_batch
        Where a shuffled pass starts.

    Yields
    ------
    dict
        ``pert_cell_emb`` and ``ctrl_cell_emb`` (B, S, G), ``pert_emb`` (B, F) once a set, ``mask`` (B, S)
        true for real cells, ``pert_name`` and ``cell_type`` lists of B.
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
        first_batch: int = 0,
    ):
        self.cells, self.set_size, self.batch_size = cells, set_size, batch_size
        self.seed, self.shuffle, self.first_batch = seed, shuffle, first_batch
        obs = cells.obs
        place = (obs["file"] + "\x1f" + obs["context"]).to_numpy()
        self._batch = (place + "\x1f" + obs["batch"]).astype(str)
        group = place + "\x1f" + obs["perturbation"].to_numpy()
        served = np.flatnonzero(keep & ~cells.is_control)
        controls = np.flatnonzero(cells.is_control)
        self._controls = rows_by_label(self._batch[controls], controls)
        by_place = rows_by_label(place[controls], controls)
        for label in np.unique(self._batch[served]):
            self._controls.setdefault(label, by_place.get(label.rsplit("\x1f", 1)[0], np.array([], int)))
        self._groups = rows_by_label(group[served], served)
        self.perturbations = sorted({label.split("\x1f")[2] for label in self._groups})
        self._vectors = dict(zip(self.perturbations, features.matrix(self.perturbations)))

    @property
    def batches_an_epoch(self) -> int:
        """Batches until every cell was served once."""
        sets = sum(-(-len(rows) // self.set_size) for rows in self._groups.values())
        return -(-sets // self.batch_size)

    def __iter__(self) -> Iterator[dict]:
        if not self.shuffle:
            yield from self._epoch(0, 0)
            return
        epoch, first = divmod(self.first_batch, self.batches_an_epoch)
        while True:
            yield from self._epoch(epoch, first)
            epoch, first = epoch + 1, 0

    def _epoch(self, epoch: int, first: int) -> Iterator[dict]:
        rng = np.random.default_rng([self.seed, epoch])
        sets = []
        for label, rows in self._groups.items():
            rows = rng.permutation(rows)
            sets += [(label, rows[i : i + self.set_size]) for i in range(0, len(rows), self.set_size)]
        order = rng.permutation(len(sets)) if self.shuffle else np.arange(len(sets))
        for b in range(first, self.batches_an_epoch):
            chosen = order[b * self.batch_size : (b + 1) * self.batch_size]
            yield self._batch_of([sets[i] for i in chosen], np.random.default_rng([self.seed, epoch, b]))

    def _batch_of(self, sets: list[tuple[str, np.ndarray]], rng: np.random.Generator) -> dict:
        B, S, G = len(sets), self.set_size, len(self.cells.genes)
        perturbed, control = np.zeros((B, S, G), np.float32), np.zeros((B, S, G), np.float32)
        mask = np.zeros((B, S), bool)
        for b, (_, rows) in enumerate(sets):
            n = len(rows)
            perturbed[b, :n] = self.cells.X[rows].toarray()
            control[b, :n] = self.cells.X[self._draw_controls(rows, rng)].toarray()
            mask[b, :n] = True
        _, contexts, perturbations = zip(*(label.split("\x1f") for label, _ in sets))
        return {
            "pert_cell_emb": torch.from_numpy(perturbed),
            "ctrl_cell_emb": torch.from_numpy(control),
            "pert_emb": torch.from_numpy(np.stack([self._vectors[p] for p in perturbations])),
            "mask": torch.from_numpy(mask),
            "pert_name": list(perturbations),
            "cell_type": list(contexts),
        }

    def _draw_controls(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One control a cell, of its batch; without replacement while the batch's controls last."""
        drawn = np.empty(len(rows), dtype=int)
        labels = self._batch[rows]
        for label in np.unique(labels):
            at = np.flatnonzero(labels == label)
            pool = self._controls[label]
            rounds = [rng.permutation(pool) for _ in range(-(-len(at) // len(pool)))]
            drawn[at] = np.concatenate(rounds)[: len(at)]
        return drawn


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
