"""What a training leaves in its run directory as it goes: metrics, the best and the last weights."""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path
from typing import Any

import lightning

from stateshift.course import read_course, write_course
from stateshift.files import written_beside
from stateshift.run import RunDirectory
from stateshift.training.anchored import KeepRule
from stateshift.training.loop.average import WeightAverage
from stateshift.training.loop.validation import Validator, save_validation
from stateshift.training.loop.watch import LossWatch, TrainingBar
from stateshift.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


class RunRecorder(lightning.Callback):
    """Validate every so many steps and at the end; extend ``metrics.csv``, keep ``best.ckpt`` and ``last.ckpt``.

    The first row is the untrained model, so that training which makes things worse is never the best.
    ``last.ckpt`` is written last: a training killed at any point goes on from it, and rows of steps that it hasn't
    reached are dropped and come again.

    Parameters
    ----------
    run
        The run directory.
    validator
        Measures the model; every process does, and the first one writes.
    settings
        How often, by what the best is chosen, and when to stop early.
    average
        Averaged weights, which are validated and kept as best.
    keep
        Judges, after each validation, where the network is kept beside a backbone that it starts from.
    """

    def __init__(
        self,
        run: RunDirectory,
        validator: Validator,
        settings: TrainingSettings,
        average: WeightAverage | None = None,
        keep: KeepRule | None = None,
    ):
        self.run, self.validator, self.settings = run, validator, settings
        self.average, self.keep = average, keep
        self.best, self.best_step, self._recorded, self._loss = -math.inf, 0, -1, math.nan
        self._rows: list[dict[str, Any]] = []
        self._bar: TrainingBar | None = None

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with every checkpoint that can be resumed."""
        state = {"best": self.best, "best_step": self.best_step, "recorded": self._recorded, "val_loss": self._loss}
        return state if self.keep is None else {**state, "keep": self.keep.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state, and from the rows that it knows."""
        self.best, self.best_step = float(state_dict["best"]), int(state_dict["best_step"])
        self._recorded = int(state_dict["recorded"])
        if self.keep is not None:
            self.keep.load_state_dict(state_dict["keep"])
        self._rows = read_course(self.run.metrics_file, self._recorded)
        if self.run.metrics_file.is_file():  # a damaged one may have been taken away
            *_, last = [{"step": -1, "val_loss": "nan"}, *self._rows]
            if int(last["step"]) != self._recorded or repr(state_dict["val_loss"]) != repr(float(last["val_loss"])):
                raise ValueError(f"its last row is not that of {self.run.metrics_file.name}")

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record the untrained model."""
        self._watch, self._step = LossWatch(self.run.last), trainer.global_step
        if self._recorded < 0:
            self._record(trainer, module)
        self._bar = TrainingBar(trainer.global_step, trainer.max_steps, trainer.is_global_zero)
        self._watch.pause_over()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Watch the loss; validate where it is time."""
        step = trainer.global_step
        self._watch.saw(trainer, batch, outputs["terms"])
        self._bar.update(step, self._watch)
        if step != self._step and (step % self.settings.val_every == 0 or step == trainer.max_steps):
            self._record(trainer, module)
            self._watch.pause_over()
        self._step = step

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
        trained = self._watch.take(trainer)
        with self.average.swapped_in(module) if self.average else contextlib.nullcontext():
            measured = trainer.strategy.broadcast(self.validator(trainer, module))
            value = (
                measured["val_pearson_delta"] if self.settings.select_by == "pearson_delta" else -measured["val_loss"]
            )
            value = -math.inf if math.isnan(value) else value
            if step == 0 or value > self.best:
                self.best, self.best_step = value, step
                self._save(trainer, self.run.best, resumable=False)
                if trainer.is_global_zero:
                    save_validation(self.run, self.validator)
        if self.keep is not None and trainer.is_global_zero:
            self.keep.add(step, self.validator.scores.copy(), self.best_step)
        n_batches = step * self.settings.accumulate * trainer.world_size
        epoch = n_batches // trainer.train_dataloader.dataset.batches_an_epoch
        row = {"step": step, "epoch": epoch, "lr": trainer.optimizers[0].param_groups[0]["lr"], **trained, **measured}
        self._rows.append(row)
        self._loss = float(row["val_loss"])
        if trainer.is_global_zero:
            write_course(self.run.metrics_file, self._rows)
        for tracker in trainer.loggers:
            tracker.log_metrics({k: v for k, v in row.items() if k != "step"}, step)
        if self._validations_since_best(step) >= (self.settings.patience or math.inf):
            logger.info("no better validation since step %d: training stops at step %d", self.best_step, step)
            trainer.should_stop = True
        self._save(trainer, self.run.last, resumable=True)

    def _validations_since_best(self, step: int) -> int:
        return (step - self.best_step) // self.settings.val_every

    def _save(self, trainer: lightning.Trainer, path: Path, resumable: bool) -> None:
        """Every process takes part in gathering the state; the first one writes it."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path, weights_only=not resumable)
            return
        with written_beside(path, overwrite=True) as part:
            trainer.save_checkpoint(part, weights_only=not resumable)
