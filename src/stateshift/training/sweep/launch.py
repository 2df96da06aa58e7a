"""Hydra's launchers: jobs one after the other, several at once, or on a cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError, first_line
from stateshift.training.config import hydra_configs
from stateshift.training.sweep.words import quoted

LAUNCHERS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}
"""Launchers of the extra ``sweep``, and the packages that hold them."""


def refuse_absent_launcher(words: Sequence[str]) -> None:
    """A StateshiftError where words name a launcher that is not installed."""
    for word in words:
        key, _, launcher = word.partition("=")
        if key == "hydra/launcher" and launcher in LAUNCHERS and _absent(LAUNCHERS[launcher]):
            raise StateshiftError(f"{word} is not installed: pip install 'stateshift[sweep]'")


def _absent(module: str) -> bool:
    """Whether a module can't be imported, its package perhaps not there either."""
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def launch(job: Callable[[Any], None], words: Sequence[str], folder: Path, logs: Path) -> None:
    """Call a job once for each combination of the words, through Hydra's sweeper and launcher.

    Parameters
    ----------
    job
        Takes the config of its combination; it has to be picklable.
    words
        Hydra's words, swept and fixed, those for Hydra itself among them.
    folder
        Where Hydra keeps its own record.
    logs
        Where a user looks when a process is killed.

    Raises
    ------
    StateshiftError
        Hydra refuses the words, or a process was killed.
    """
    from hydra.errors import HydraException

    told = [*words, f"hydra.sweep.dir={quoted(folder)}"]
    try:
        with hydra_configs() as hydra:
            hydra.multirun("sweep", job, told)
    except HydraException as error:
        raise StateshiftError(f"Overrides {' '.join(told)}: {first_line(error)}") from error
    except RuntimeError as error:
        if not (isinstance(error, BrokenExecutor) or type(error).__module__.startswith("submitit")):
            raise
        raise StateshiftError(
            f"A process was killed, for want of memory or time perhaps (logs: {logs}): start the same command again, with "
            "fewer at once; what is finished is passed over."
        ) from error
