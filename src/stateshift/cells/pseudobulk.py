"""Pseudobulk effects: what a perturbation did to the mean of a population."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.cells.population import Cells
from stateshift.errors import StateshiftError
from stateshift.files import written_beside


@dataclass
class EffectTable:
    """Effects of R groups, a group being one perturbation in one context.

    Parameters
    ----------
    genes
        The G gene symbols of the columns.
    perturbations, contexts
        R names each; a pair occurs once.
    effects
        Array (R, G) float32: mean of the perturbed cells minus mean of their controls, both log1p.
    n_cells
        Array (R,): perturbed cells behind each row.
    control_means
        Context → mean of its control cells, (G,) float32, log1p. It may hold contexts without
        a row in ``effects``: contexts where no perturbation was seen in training.
    """

    genes: list[str]
    perturbations: list[str]
    contexts: list[str]
    effects: np.ndarray
    n_cells: np.ndarray
    control_means: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.perturbations)

    def rows(self, keep: np.ndarray) -> EffectTable:
        """The rows of a boolean mask (R,); the control means stay whole."""
        return EffectTable(
            self.genes,
            [p for p, k in zip(self.perturbations, keep) if k],
            [c for c, k in zip(self.contexts, keep) if k],
            self.effects[keep],
            self.n_cells[keep],
            self.control_means,
        )

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` of plain arrays (no pickle)."""
        contexts = list(self.control_means)
        with written_beside(path, overwrite=True) as part, open(part, "wb") as handle:
            np.savez_compressed(
                handle,
                genes=np.array(self.genes, dtype=str),
                perturbations=np.array(self.perturbations, dtype=str),
                contexts=np.array(self.contexts, dtype=str),
                effects=self.effects.astype(np.float32),
                n_cells=self.n_cells.astype(np.int64),
                control_contexts=np.array(contexts, dtype=str),
                control_means=np.stack([self.control_means[c] for c in contexts]).astype(np.float32),
            )

    @classmethod
    def load(cls, path: str | Path) -> EffectTable:
        """Read what `save` wrote; a StateshiftError where it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(
                    stored["genes"].tolist(),
                    stored["perturbations"].tolist(),
                    stored["contexts"].tolist(),
                    stored["effects"],
                    stored["n_cells"],
                    dict(zip(stored["control_contexts"].tolist(), stored["control_means"])),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StateshiftError(f"{path} is damaged: {error}. Copy the run anew, or train again.") from error


def estimate_effects(cells: Cells, keep: np.ndarray | None = None) -> EffectTable:
    """Mean shifts of every (perturbation, context), against controls matched by file and batch.

    A perturbed cell's control is the mean of the controls of its file, context and batch; where the
    batch holds no control, the mean over its file and context. A group's effect is the mean of its
    cells minus the mean of their controls, so that a batch counts by its share of perturbed cells.

    Parameters
    ----------
    cells
        The cells, log1p.
    keep
        Mask (n,) of the perturbed cells to use (a split); controls are always used. Default: all.

    Raises
    ------
    StateshiftError
        A context has perturbed cells in a file that holds no control of that context.
    """
    is_control = cells.is_control
    keep = ~is_control if keep is None else keep & ~is_control
    place = cells.obs["file"].astype(str) + "\x1f" + cells.obs["context"].astype(str)
    place, batch = place.to_numpy(), (place + "\x1f" + cells.obs["batch"].astype(str)).to_numpy()
    control_by_place = _means_by(cells, place, is_control)
    control_by_batch = _means_by(cells, batch, is_control)
    orphans = sorted(set(place[keep]) - set(control_by_place))
    if orphans:
        file, context = orphans[0].split("\x1f")
        raise StateshiftError(f"{file}: context `{context}` has perturbed cells and no control cells.")

    context, perturbation = cells.obs["context"].astype(str).to_numpy(), cells.obs["perturbation"].to_numpy()
    groups: dict[tuple[str, str], list[int]] = {}
    for i in np.flatnonzero(keep):
        groups.setdefault((context[i], perturbation[i]), []).append(i)
    keys = sorted(groups)
    effects = np.zeros((len(keys), len(cells.genes)), dtype=np.float32)
    for row, key in enumerate(keys):
        members = groups[key]
        baseline = np.zeros(len(cells.genes))
        names, counts = np.unique(batch[members], return_counts=True)
        for name, count in zip(names, counts):
            mean = control_by_batch.get(name)
            baseline += count * (control_by_place[name.rsplit("\x1f", 1)[0]] if mean is None else mean)
        effects[row] = cells.X.mean(np.array(members)) - baseline / len(members)
    control_means = {c: m.astype(np.float32) for c, m in _means_by(cells, context, is_control).items()}
    return EffectTable(
        list(cells.genes),
        [p for _, p in keys],
        [c for c, _ in keys],
        effects,
        np.array([len(groups[k]) for k in keys], dtype=np.int64),
        control_means,
    )


def _means_by(cells: Cells, labels: Sequence[str], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Label → mean expression (G,) of the masked cells that carry it."""
    labels = np.asarray(labels)
    return {name: cells.X.mean(mask & (labels == name)) for name in np.unique(labels[mask])}
