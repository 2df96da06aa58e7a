"""Losses watched as they come, and the bar that shows them."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning
import torch
from torch import Tensor

from stateshift.errors import StateshiftError, some

LOOK_EVERY = 20
"""Batches between looks at a device's losses: each look waits for the device."""


class LossWatch:
    """Means of the losses since they were last taken, over all processes; an end where one is no number.

    Parameters
    ----------
    resumable
        The checkpoint that is named where training has to stop.
    """

    def __init__(self, resumable: Any):
        self.resumable = resumable
        self.latest, self.cells_a_second = math.nan, math.nan
        self._unseen: list[tuple[int, list[str], dict[str, Tensor], Tensor]] = []
        self._sums: dict[str, float] = {}
        self._n_batches = 0
        self._since = time.perf_counter()

    def saw(self, trainer: lightning.Trainer, batch: dict[str, Any], terms: dict[str, Tensor]) -> None:
        """Note a batch's losses; look at them at once where that costs nothing."""
        names = [f"{p} in {c}" for p, c in zip(batch["pert_name"], batch["cell_type"])]
        cells, mask = batch["pert_cell_emb"], batch.get("mask")
        n_cells = torch.tensor(cells.shape[:-1].numel()) if mask is None else mask.sum()
        self._unseen.append((trainer.global_step, names, terms, n_cells))
        if len(self._unseen) == (1 if cells.device.type == "cpu" else LOOK_EVERY):
            self.look(trainer)

    def look(self, trainer: lightning.Trainer) -> None:
        """Read what was noted.

        Raises
        ------
        StateshiftError
            A loss is not finite; it names the step and the sets of the batch.
        """
        if not self._unseen:
            return
        terms = list(self._unseen[0][2])
        values = torch.stack([torch.stack([unseen[2][name].float() for name in terms]) for unseen in self._unseen])
        values = trainer.strategy.reduce(values, reduce_op="mean").cpu().double()
        for (step, names, *_), value in zip(self._unseen, values[:, terms.index("loss")].tolist()):
            if not math.isfinite(value):
                raise StateshiftError(
                    f"The loss became {value} at step {step}, in the batch of {some(names)}: training stopped, and "
                    f"{self.resumable} holds the state before. A lower training.lr, or a training.gradient_clip, "
                    "may keep it finite; otherwise look at those cells."
                )
        for name, total in zip(terms, values.sum(dim=0).tolist()):
            self._sums[name] = self._sums.get(name, 0.0) + total
        self._n_batches += len(self._unseen)
        now, n_cells = time.perf_counter(), sum(int(unseen[3]) for unseen in self._unseen) * trainer.world_size
        speed = n_cells / max(now - self._since, 1e-9)
        self.cells_a_second = speed if math.isnan(self.cells_a_second) else 0.9 * self.cells_a_second + 0.1 * speed
        self.latest, self._since = float(values[-1, terms.index("loss")]), now
        self._unseen.clear()

    def take(self, trainer: lightning.Trainer) -> dict[str, float]:
        """Means of the losses since the last call, named ``train_…``."""
        self.look(trainer)
        means = {f"train_{name}": total / self._n_batches for name, total in self._sums.items()}
        self._sums, self._n_batches = {}, 0
        return means

    def pause_over(self) -> None:
        """Count no time until now towards the cells a second."""
        self._since = time.perf_counter()


class TrainingBar:
    """Loss, cells a second and time left on standard error, where that is a terminal.

    Parameters
    ----------
    done, total
        Steps.
    shown
        Whether this process shows a bar at all.
    """

    def __init__(self, done: int, total: int, shown: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training, loss {task.fields[loss]:.4f}, {task.fields[speed]:,.0f} cells/s"),
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not (shown and console.is_terminal),
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=done, loss=math.nan, speed=math.nan)

    def update(self, step: int, watch: LossWatch) -> None:
        """Move it to a step."""
        self._bar.update(self._task, completed=step, loss=watch.latest, speed=watch.cells_a_second)

    def stop(self) -> None:
        """End it, so that what follows stands alone."""
        self._bar.stop()
