"""What a training leaves in its run directory as it goes: metrics, the best and the last weights."""

from __future__ import annotations

import csv
import math
from typing import Any

import lightning

from stateshift.files import written_beside
from stateshift.run import RunDirectory

COLUMNS = ("step", "epoch", "train_loss", "val_loss", "val_shift_error")


class RunRecorder(lightning.Callback):
    """Append ``metrics.csv`` at each validation, keep ``best.ckpt`` and ``last.ckpt``.

    The first validation is that of the untrained model, so that training which makes things worse is
    never the best.

    Parameters
    ----------
    run
        The run directory.
    """

    def __init__(self, run: RunDirectory):
        self.run, self.best_loss, self.best_step, self._recorded = run, math.inf, 0, -1

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint."""
        return {"best_loss": self.best_loss, "best_step": self.best_step, "recorded": self._recorded}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.best_loss, self.best_step = state_dict["best_loss"], state_dict["best_step"]
        self._recorded = state_dict["recorded"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Let the sets of an epoch depend on its number alone, also after a resume."""
        trainer.train_dataloader.dataset.epoch = trainer.current_epoch

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record one row; save the weights."""
        step = trainer.global_step
        if step == self._recorded:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k in COLUMNS}
        self._append({"step": step, "epoch": trainer.current_epoch, **values})
        self._recorded = step
        if values["val_loss"] < self.best_loss:
            self.best_loss, self.best_step = values["val_loss"], step
            self._save(trainer, self.run.best, weights_only=True)
        if not trainer.sanity_checking:
            self._save(trainer, self.run.last, weights_only=False)

    def _save(self, trainer: lightning.Trainer, path: Any, weights_only: bool) -> None:
        with written_beside(path, overwrite=True) as part:
            trainer.save_checkpoint(part, weights_only=weights_only)

    def _append(self, row: dict[str, Any]) -> None:
        new = not self.run.metrics_file.exists()
        with open(self.run.metrics_file, "a", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
