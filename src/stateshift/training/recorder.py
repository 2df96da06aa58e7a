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
    batches_an_epoch
        To count epochs by.
    """

    def __init__(self, run: RunDirectory, batches_an_epoch: int):
        self.run, self.batches_an_epoch = run, batches_an_epoch
        self.best_loss, self.best_step, self._recorded = math.inf, 0, -1

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint."""
        return {"best_loss": self.best_loss, "best_step": self.best_step, "recorded": self._recorded}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.best_loss, self.best_step = state_dict["best_loss"], state_dict["best_step"]
        self._recorded = state_dict["recorded"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Show a bar where there is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = TextColumn("training, loss {task.fields[loss]:.4f}"), BarColumn(), MofNCompleteColumn()
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, loss=math.nan)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=trainer.global_step, loss=float(outputs["loss"]))

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """End the bar."""
        self._bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """End the bar, so that the error stands alone."""
        if hasattr(self, "_bar"):
            self._bar.stop()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record one row; save the weights."""
        step = trainer.global_step
        if step == self._recorded:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k in COLUMNS}
        self._append({"step": step, "epoch": step // self.batches_an_epoch, **values})
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
