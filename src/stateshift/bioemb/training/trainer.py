"""Lightning put together for both kinds of training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from stateshift.bioemb.settings import Settings
from stateshift.errors import StateshiftError, first_line
from stateshift.files import intact, read_tensors
from stateshift.progress import told_how_to_go_on

LAST = Path("checkpoints") / "last.ckpt"
"""What a stopped training goes on from, in its run."""


def make_trainer(
    epochs: int, settings: Settings, folder: Path, callbacks: Sequence[lightning.Callback]
) -> lightning.Trainer:
    """A trainer on one device of ``training.accelerator``.

    Raises
    ------
    StateshiftError
        The machine has no such device.
    """
    try:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator=settings.training.accelerator,
            devices=1,
            gradient_clip_val=1.0,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        chosen = f"training.accelerator={settings.training.accelerator}"
        raise StateshiftError(f"{chosen}: {first_line(error)}") from error


def fit(
    trainer: lightning.Trainer, module: lightning.LightningModule, loader: DataLoader, checkpoint: Path, command: str
) -> None:
    """Train to the last epoch, from a checkpoint where it is there; Ctrl-C tells the command that goes on.

    Raises
    ------
    StateshiftError
        The checkpoint is damaged.
    """
    if found := checkpoint.is_file():
        with intact(checkpoint, "Copy the run anew; or remove this file, and the training begins anew."):
            read_tensors(checkpoint, mmap=True)
    with told_how_to_go_on(command):
        trainer.fit(module, loader, ckpt_path=checkpoint if found else None, weights_only=True)
