"""Effects of many perturbations side by side, and their file in a run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.files import intact, read_arrays, written_beside

PER_GENE = ("effects", "log2_fold_change", "standard_error", "shrunk")
PER_ROW = ("n_cells", "n_controls", "n_unmatched", "reliability")


@dataclass
class EffectTable:
    """Effects of R groups, a group being one perturbation in one context.

    Everything after ``control_means`` is None where it isn't known, as in a published table.

    Parameters
    ----------
    genes
        The G gene symbols of the columns.
    perturbations, contexts
        R names each; a pair occurs once.
    effects
        Array (R, G) float32: mean of the perturbed cells minus mean of their controls, on ``scale``; or what
        a published table holds. NaN where a gene was not measured.
    n_cells
        Array (R,): perturbed cells behind each row; None where that isn't known.
    control_means
        Context → mean of its control cells, (G,) float32, on ``scale``. It may hold contexts without
        a row in ``effects``: contexts where no perturbation was seen in training.
    standard_error
        Array (R, G) float32, of ``effects``.
    log2_fold_change
        Array (R, G) float32: log2 of the ratio of linear means.
    shrunk
        Array (R, G) float32: ``effects`` drawn to zero by their standard error (`shrink_effects`).
    n_controls
        Array (R,): control cells behind each row.
    n_unmatched
        Array (R,): perturbed cells whose batch holds no control, among ``n_cells``.
    reliability
        Array (R,): correlation over genes of the effects of two random halves of the cells.
    scale
        ``log1p_1e4``, ``log1p`` or ``embedding`` as the cells' was; of a published table what its numbers are.
    simulated
        Whether the cells say that they are simulated.
    """

    genes: list[str]
    perturbations: list[str]
    contexts: list[str]
    effects: np.ndarray
    n_cells: np.ndarray | None
    control_means: dict[str, np.ndarray]
    standard_error: np.ndarray | None = None
    log2_fold_change: np.ndarray | None = None
    shrunk: np.ndarray | None = None
    n_controls: np.ndarray | None = None
    n_unmatched: np.ndarray | None = None
    reliability: np.ndarray | None = None
    scale: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        R, G = len(self.perturbations), len(self.genes)
        shapes = {"contexts": (R,), **dict.fromkeys(PER_GENE, (R, G)), **dict.fromkeys(PER_ROW, (R,))}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise StateshiftError(
                    f"An effect table of {R} rows and {G} genes needs {name} of shape {shape}, not {np.shape(value)}."
                )
        for what, names in (("pairs", zip(self.contexts, self.perturbations)), ("genes", self.genes)):
            twice = [n for n, count in Counter(names).items() if count > 1]
            if twice:
                shown = some([" / ".join(n) if isinstance(n, tuple) else n for n in twice], 4)
                raise StateshiftError(f"An effect table names {what} more than once: {shown}.")

    def __len__(self) -> int:
        return len(self.perturbations)

    @property
    def measured(self) -> np.ndarray:
        """Mask (R, G) of the effects that are known."""
        return ~np.isnan(self.effects)

    def rows(self, keep: np.ndarray) -> EffectTable:
        """The rows of a boolean mask (R,); the control means stay whole."""
        keep = np.asarray(keep, dtype=bool)
        arrays = {n: getattr(self, n)[keep] for n in (*PER_GENE, *PER_ROW) if getattr(self, n) is not None}
        return dataclasses.replace(
            self,
            perturbations=[p for p, k in zip(self.perturbations, keep) if k],
            contexts=[c for c, k in zip(self.contexts, keep) if k],
            **arrays,
        )

    def columns(self, keep: np.ndarray) -> EffectTable:
        """The genes of a boolean mask (G,).

        Examples
        --------
        >>> table = EffectTable(["g", "h"], ["A"], ["c"], np.array([[1.0, np.nan]]), None, {})
        >>> table.columns(table.measured.all(axis=0)).genes
        ['g']
        """
        keep = np.asarray(keep, dtype=bool)
        arrays = {n: getattr(self, n)[:, keep] for n in PER_GENE if getattr(self, n) is not None}
        return dataclasses.replace(
            self,
            genes=[g for g, k in zip(self.genes, keep) if k],
            control_means={c: mean[keep] for c, mean in self.control_means.items()},
            **arrays,
        )

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` of plain arrays (no pickle)."""
        contexts = list(self.control_means)
        means = np.array([self.control_means[c] for c in contexts], dtype=np.float32)
        arrays = {
            "genes": _texts(self.genes),
            "perturbations": _texts(self.perturbations),
            "contexts": _texts(self.contexts),
            "control_contexts": _texts(contexts),
            "control_means": means.reshape(len(contexts), len(self.genes)),
            "scale": np.array(self.scale, dtype=str),
            "simulated": np.array(self.simulated),
            **{n: getattr(self, n) for n in (*PER_GENE, *PER_ROW) if getattr(self, n) is not None},
        }
        with written_beside(path, overwrite=True) as part, open(part, "wb") as handle:
            np.savez_compressed(handle, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> EffectTable:
        """Read what `save` wrote; a StateshiftError where it is damaged."""
        texts, way_out = (
            ("genes", "perturbations", "contexts", "control_contexts"),
            "Copy the run anew, or train again.",
        )
        stored = read_arrays(path, (*texts, "scale"), way_out)
        with intact(path, way_out):
            genes, perturbations, contexts, of_means = (stored[name].tolist() for name in texts)
            per_gene = {name: stored[name].astype(np.float32, copy=False) for name in PER_GENE if name in stored}
            means = stored["control_means"].astype(np.float32, copy=False)
            if (
                means.shape != (len(of_means), len(genes))
                or np.isinf(means).any()
                or np.isinf(per_gene["effects"]).any()
            ):
                raise ValueError("its control means aren't one row a context, or it holds infinite values")
            return cls(
                genes,
                perturbations,
                contexts,
                control_means=dict(zip(of_means, means)),
                scale=str(stored["scale"]),
                simulated=bool(stored["simulated"]),
                **per_gene,
                **{name: stored.get(name) for name in PER_ROW},
            )


def _texts(names: Sequence[str]) -> np.ndarray:
    return np.array(names, dtype=str)
