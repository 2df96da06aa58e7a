"""The course of a training, and the state that a stopped one goes on from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from torch import Tensor

from stateshift.bioemb.model import BioEmb
from stateshift.bioemb.training.module import CodeModule
from stateshift.bioemb.training.trainer import LAST
from stateshift.course import read_course, write_course
from stateshift.errors import StateshiftError
from stateshift.files import written_beside

logger = logging.getLogger(__name__)

Watch = Callable[[BioEmb], dict[str, float]]
"""What follows a training: a network in, a score by its name out."""


class Recorder(lightning.Callback):
    """Writes ``metrics.csv`` and ``checkpoints/last.ckpt`` after every few epochs and the last.

    Parameters
    ----------
    folder
        The run.
    vectors
        (E, F), what accuracies are measured on.
    every
        Epochs.
    watch
        What else to measure; None: nothing.
    """

    def __init__(self, folder: Path, vectors: Tensor, every: int, watch: Watch | None):
        self.folder, self.vectors, self.every, self.watch = folder, vectors, every, watch

    @property
    def course(self) -> Path:
        """The file of metrics."""
        return self.folder / "metrics.csv"

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: CodeModule) -> None:
        """Measure, write, keep the state."""
        loss = float(torch.stack(module.losses).mean())
        if not math.isfinite(loss):
            raise StateshiftError(
                f"The loss became no number in epoch {trainer.current_epoch + 1}: lower training.learning_rate."
            )
        epoch = trainer.current_epoch + 1
        if epoch % self.every and epoch < trainer.max_epochs:
            return
        measured = {"epoch": epoch, "step": trainer.global_step, "loss": loss, **module.accuracies(self.vectors)}
        if self.watch is not None:
            measured |= self.watch(module.model)
        # rows of epochs that a resumed training repeats are left out
        write_course(self.course, [*read_course(self.course, measured["step"] - 1), measured])
        logger.info(
            "epoch %d: %s.", epoch, ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if name not in ("epoch", "step"))
        )  # fmt: skip
        with written_beside(self.folder / LAST, overwrite=True) as part:
            trainer.save_checkpoint(part)
