"""Where metrics go besides ``metrics.csv``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from stateshift.errors import StateshiftError
from stateshift.run import RunDirectory


def refuse_absent(names: Sequence[str]) -> None:
    """Raise a StateshiftError where a logger's package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise StateshiftError(
                f"training.loggers names {name}, which is not installed: pip install 'stateshift[tracking]'"
            )


def make_loggers(names: Sequence[str], run: RunDirectory, config: dict[str, Any]) -> list[Any]:
    """Lightning's loggers of a run: TensorBoard's files in its ``tensorboard/``, those of wandb in ``wandb/``."""
    made = []
    for name in names:
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            made.append(TensorBoardLogger(run.path, name=None, version="tensorboard"))
        else:
            from lightning.pytorch.loggers import WandbLogger

            made.append(WandbLogger(name=config["name"], project="stateshift", save_dir=run.path, config=config))
    return made


def finish(names: Sequence[str]) -> None:
    """End what loggers have open: wandb would take a process's next training for more of the same run."""
    if "wandb" in names:
        import wandb

        if wandb.run is not None:
            wandb.run.finish()
