"""Validation: losses of sets, and the Pearson delta of groups.

Shapes: B sets, G genes, R groups.
"""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from stateshift.cells import EffectTable
from stateshift.effects import HeldOut
from stateshift.effects.conformal import save_held_out
from stateshift.metrics import pearson_delta
from stateshift.run import RunDirectory


class Validator:
    """Measure a module on sets of validation cells and of control cells.

    Parameters
    ----------
    validation
        Batches of sets, the same at every pass.
    drift
        Batches of control sets: ``control_shift`` is how far the mean of cells moves that nobody perturbed.
    measured
        Measured effects of the validation groups, each one perturbation in one context.

    Attributes
    ----------
    scores
        Pearson delta of each validation group (R,) at the latest pass; NaN for one that is measured not to move.
    shifts
        Their predicted effects (R, G) at the latest pass.
    """

    def __init__(self, validation: DataLoader, drift: DataLoader, measured: EffectTable):
        self.validation, self.drift, self.measured = validation, drift, measured
        self.scores = np.full(len(measured), np.nan)
        self.shifts = np.zeros(measured.effects.shape)
        self._row = {pair: r for r, pair in enumerate(zip(measured.contexts, measured.perturbations))}

    def __call__(self, trainer: lightning.Trainer, module: Any) -> dict[str, float]:
        """Means over sets of what a set is measured by, and ``val_pearson_delta`` over groups.

        The Pearson delta correlates, over genes, a group's predicted shift from the controls its sets were made
        of with the measured shift from all controls matched to it. A group counts once, whatever its size;
        one that is predicted not to move at all counts 0, and one measured not to is left out.
        """
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            result = self._perturbed(trainer, module)
            sums, n_sets = 0.0, 0
            for batch in self.drift:
                shifts = module.control_shifts(_moved(batch, trainer, module))
                sums, n_sets = sums + float(shifts["control_shift"].sum()), n_sets + len(batch["pert_name"])
        module.train()
        return {**result, "control_shift": sums / n_sets}

    def _perturbed(self, trainer: lightning.Trainer, module: Any) -> dict[str, float]:
        sums: dict[str, float] = {}
        n_sets = 0
        shift_RG = np.zeros(self.measured.effects.shape)
        n_cells_R = np.zeros(len(self.measured))
        for batch in self.validation:
            losses, shift_BG = module.set_losses(_moved(batch, trainer, module))
            n_sets += len(batch["pert_name"])
            for name, values in losses.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
            rows = [self._row.get(pair, -1) for pair in zip(batch["cell_type"], batch["pert_name"])]
            n_cells = batch["mask"].sum(dim=1).numpy()
            for row, n, shift in zip(rows, n_cells, shift_BG.double().cpu().numpy()):
                if row >= 0:
                    shift_RG[row] += n * shift
                    n_cells_R[row] += n
        shift_RG /= n_cells_R[:, None]
        self.shifts = shift_RG
        means = {name: total / n_sets for name, total in sums.items()}
        self.scores = self.score(shift_RG)
        moved = np.isfinite(self.scores)
        return {**means, "val_pearson_delta": float(self.scores[moved].mean()) if moved.any() else float("nan")}

    def score(self, effects: np.ndarray) -> np.ndarray:
        """Pearson delta (R,) of effects (R, G) of the validation groups; NaN for one that is measured not to move."""
        moved, scores = np.ptp(self.measured.effects, axis=1) > 0, np.full(len(effects), np.nan)
        scores[moved] = np.nan_to_num(pearson_delta(effects[moved], self.measured.effects[moved]))
        return scores


def save_validation(run: RunDirectory, validator: Validator) -> None:
    """Write the run's ``validation.npz``: effects of the latest pass, of pairs that don't train; none, and there is no file.

    Intervals of the network's predictions are calibrated on them.
    """
    trained = {(context, p) for context, of in run.splits()["train"].items() for p in of}
    measured = validator.measured
    new = np.array([pair not in trained for pair in zip(measured.contexts, measured.perturbations)], dtype=bool)
    if new.any():
        of = measured.rows(new)
        held = HeldOut(of.perturbations, of.contexts, of.effects, validator.shifts[new])
        save_held_out(held, of.genes, run.validation_file)


def _moved(batch: dict, trainer: lightning.Trainer, module: Any) -> dict:
    """A batch on the module's device, in the precision of its weights."""
    return module.transfer_batch_to_device(trainer.precision_plugin.convert_input(batch), module.device, 0)
