"""What a training leaves in its run directory as it goes: metrics, the best and the last weights."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stateshift.files import written_beside
from stateshift.run import RunDirectory


class RunRecorder(lightning.Callback):
    """Validate every so many steps and at the end; append ``metrics.csv``, keep ``best.ckpt`` and ``last.ckpt``.

    The first row is the untrained model, so that training which makes things worse is never the best.

    Parameters
    ----------
    run
        The run directory.
    validation
        Batches of sets, the same at every pass.
    drift
        Batches of control sets: ``control_shift`` is how far the mean of cells moves that nobody perturbed.
    every
        Steps between validations.
    batches_an_epoch
        To count epochs by.
    """

    def __init__(self, run: RunDirectory, validation: DataLoader, drift: DataLoader, every: int, batches_an_epoch: int):
        self.run, self.validation, self.drift = run, validation, drift
        self.every, self.batches_an_epoch = every, batches_an_epoch
        self.best_loss, self.best_step, self._recorded = math.inf, 0, -1
        self._bar = None

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint."""
        return {"best_loss": self.best_loss, "best_step": self.best_step, "recorded": self._recorded}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.best_loss, self.best_step = state_dict["best_loss"], state_dict["best_step"]
        self._recorded = state_dict["recorded"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record the untrained model; show a bar where there is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._recorded < 0:
            self._record(trainer, module)
        console = Console(stderr=True)
        columns = TextColumn("training, loss {task.fields[loss]:.4f}"), BarColumn(), MofNCompleteColumn()
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, loss=math.nan)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; validate where it is time."""
        step, loss = trainer.global_step, float(outputs["loss"])
        self._bar.update(self._task, completed=step, loss=loss)
        if step % self.every == 0 or step == trainer.max_steps:
            self._record(trainer, module)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """End the bar."""
        self._bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """End the bar, so that the error stands alone."""
        if self._bar is not None:
            self._bar.stop()

    def _record(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        step = self._recorded = trainer.global_step
        trained = {
            name: float(trainer.callback_metrics[name]) if name in trainer.callback_metrics else None
            for name in (f"train_{term}" for term in ("loss", *module.objective.weights))
        }
        losses = self._validate(module, self.validation, module.set_losses)
        losses |= self._validate(module, self.drift, module.control_shifts)
        if losses["val_loss"] < self.best_loss:
            self.best_loss, self.best_step = losses["val_loss"], step
            self._save(trainer, self.run.best, resumable=False)
        self._save(trainer, self.run.last, resumable=True)
        self._append({"step": step, "epoch": step // self.batches_an_epoch, **trained, **losses})

    def _validate(
        self, module: lightning.LightningModule, batches: DataLoader, measure: Callable[[dict], dict[str, Tensor]]
    ) -> dict[str, float]:
        """Means of what is measured of each set, each set counting once."""
        module.eval()
        sums: dict[str, float] = {}
        n_sets = 0
        with torch.no_grad():
            for batch in batches:
                losses = measure(module.transfer_batch_to_device(batch, module.device, 0))
                n_sets += len(batch["pert_name"])
                for name, values in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(values.sum())
        module.train()
        return {name: total / n_sets for name, total in sums.items()}

    def _save(self, trainer: lightning.Trainer, path: Any, resumable: bool) -> None:
        with written_beside(path, overwrite=True) as part:
            trainer.save_checkpoint(part, weights_only=not resumable)

    def _append(self, row: dict[str, Any]) -> None:
        new = not self.run.metrics_file.exists()
        with open(self.run.metrics_file, "a", newline="") as handle:
            writer = csv.DictWriter(handle, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
