"""Jobs through the models: parsed in workers, embedded by Lightning over devices and nodes, written as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stateshift.errors import StateshiftError, first_line
from stateshift.progress import quiet_lightning, told_how_to_go_on
from stateshift.structure.aggregator import Aggregator, aggregate
from stateshift.structure.pipeline.jobs import Job
from stateshift.structure.pipeline.loading import JobData, Loaded, Reading
from stateshift.structure.pipeline.record import Done, Record
from stateshift.structure.residues import ResidueModel


@dataclass(frozen=True)
class Machine:
    """Where and how it runs.

    Parameters
    ----------
    batch_size
        Structures, chains or assemblies a step.
    num_workers
        Processes that parse; 0: none of their own.
    num_nodes, accelerator, devices
        As Lightning takes them; several devices are indices, one is a number.
    """

    batch_size: int = 8
    num_workers: int = 0
    num_nodes: int = 1
    accelerator: str = "auto"
    devices: tuple[str, ...] = ("auto",)

    def __post_init__(self) -> None:
        low = [
            name
            for name, least in (("batch_size", 1), ("num_workers", 0), ("num_nodes", 1))
            if getattr(self, name) < least
        ]
        if low:
            raise StateshiftError(f"--{low[0].replace('_', '-')} can't be {getattr(self, low[0])}.")
        self.trainer_options()

    def trainer_options(self) -> dict[str, Any]:
        """The Trainer's arguments."""
        if self.devices == ("auto",):
            devices: Any = 1 if self.accelerator == "cpu" else "auto"
        else:
            try:
                numbers = [int(device) for device in self.devices]
            except ValueError as error:
                raise StateshiftError(f"--devices takes `auto` or numbers, not {' '.join(self.devices)}.") from error
            devices = numbers[0] if len(numbers) == 1 else numbers
        return {"accelerator": self.accelerator, "devices": devices, "num_nodes": self.num_nodes}


class Embedding(lightning.LightningModule):
    """Predicts by handing results to a record; keeps nothing in memory.

    Parameters
    ----------
    residues
        Makes residue rows; None where stored ones are used.
    aggregator
        Makes vectors; None where rows are what is wanted.
    record
        Takes results.
    """

    def __init__(self, residues: ResidueModel | None, aggregator: Aggregator | None, record: Record):
        super().__init__()
        self.residues, self.aggregator, self.record = residues, aggregator, record
        if residues is not None and hasattr(residues, "esm"):
            self.network = residues.esm.network
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    def predict_step(self, batch: Sequence[Loaded], _: int = 0) -> None:
        """Embed a batch; where it fails as a whole, each job alone, so that one spoils no other."""
        whole = [loaded for loaded in batch if not loaded.failure]
        done = [Done(loaded.job, {}, loaded.failure) for loaded in batch if loaded.failure]
        try:
            done += self._embedded(whole)
        except (StateshiftError, RuntimeError):
            for loaded in whole:
                try:
                    done += self._embedded([loaded])
                except (StateshiftError, RuntimeError) as error:
                    done.append(Done(loaded.job, {}, " ".join(str(error).split())[:300]))
        self.record.write(done)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are chains of many lengths: the models move what they need."""
        return batch

    def on_predict_end(self) -> None:
        """Wait for all processes: the first then puts the files together."""
        self.trainer.strategy.barrier()

    def _embedded(self, batch: Sequence[Loaded]) -> list[Done]:
        rows = self._rows(batch)
        results: list[dict[str, Tensor]] = []
        for loaded, chains in zip(batch, rows):
            results.append({name: torch.cat([chains[i] for i in members]) for name, members in loaded.results.items()})
        if self.aggregator is not None:
            flat = [value for named in results for value in named.values()]
            vectors = iter(aggregate(self.aggregator, flat) if flat else [])
            results = [{name: next(vectors).clone() for name in named} for named in results]
        return [Done(loaded.job, named) for loaded, named in zip(batch, results)]

    def _rows(self, batch: Sequence[Loaded]) -> list[list[Tensor]]:
        """Residue rows of each chain of each job."""
        fresh = [loaded for loaded in batch if loaded.rows is None]
        made = iter(self.residues.rows([e for loaded in fresh for e in loaded.entries]) if fresh else [])
        return [
            [next(made) for _ in loaded.entries] if loaded.rows is None else [torch.from_numpy(r) for r in loaded.rows]
            for loaded in batch
        ]


def trainer_for(where: Mapping[str, Any], **more: Any) -> lightning.Trainer:
    """Lightning's Trainer without its own files.

    Parameters
    ----------
    where
        Accelerator, devices and num_nodes.
    more
        Its other arguments.

    Raises
    ------
    StateshiftError
        This machine has no such accelerator or devices.
    """
    try:
        return lightning.Trainer(
            logger=False, enable_checkpointing=False, enable_model_summary=False, **{**more, **where}
        )
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        asked = " ".join(f"{name}={value}" for name, value in where.items())
        raise StateshiftError(f"{asked} can't be had here: {first_line(error)}") from error


def predict(
    jobs: Sequence[Job],
    reading: Reading,
    residues: ResidueModel | None,
    aggregator: Aggregator | None,
    record: Record,
    machine: Machine,
) -> bool:
    """Run all jobs; whether this process is the one that puts the files together."""
    loader = DataLoader(JobData(jobs, reading), machine.batch_size, num_workers=machine.num_workers, collate_fn=list)
    with quiet_lightning(), told_how_to_go_on("the same command"):
        trainer = trainer_for(machine.trainer_options(), enable_progress_bar=len(jobs) > machine.batch_size)
        trainer.predict(Embedding(residues, aggregator, record), loader, return_predictions=False)
    return trainer.is_global_zero
