"""Train a RAG-ESM, and go on with a training that stopped."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from stateshift.course import read_course, write_course
from stateshift.errors import StateshiftError, enough_memory, first_line, some
from stateshift.files import intact, new_folder, read_tensors, sha256, written_beside, yaml_text
from stateshift.progress import told_how_to_go_on
from stateshift.rag_esm.homologs.choice import Contexts
from stateshift.rag_esm.homologs.clusters import Cluster
from stateshift.rag_esm.homologs.data import data_files, read_data
from stateshift.rag_esm.model.checkpoint import TrainedRagESM, load_rag_esm, new_rag_esm, save_rag_esm
from stateshift.rag_esm.training.batches import Batches
from stateshift.rag_esm.training.module import Training
from stateshift.rag_esm.training.settings import Settings, read_settings, settings_of
from stateshift.rag_esm.training.validation import RATES, perplexities, validation_pairs
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

SETTINGS, METRICS, LAST, BEST = "settings.yaml", "metrics.csv", "last.pt", "best"


@left_alone()
def train_rag_esm(
    data: str | Path | None = None,
    output: str | Path | None = None,
    *,
    preset: str = "8M",
    overrides: Sequence[str] = (),
    init_from: str | Path | None = None,
    resume: str | Path | None = None,
) -> TrainedRagESM:
    """Train and keep the weights of the best validation: the mean over rates 0.15, 0.5 and 0.9, with contexts.

    Parameters
    ----------
    data
        A folder of `make_data`; of a resumed run where it lies now, if it was moved.
    output
        The run's folder: ``settings.yaml``, ``metrics.csv``, ``best/`` (a model that `load_rag_esm` reads) and
        ``last.pt``, from which it is resumed.
    preset, overrides
        See `read_settings`.
    init_from
        A RAG-ESM whose weights are the start; its ESM2 and cross layers stay.
    resume
        Instead: the folder of a run that stopped; it goes on with the same batches, as if it never had. Only
        ``max_steps`` and ``val_every`` may change.

    Returns
    -------
    TrainedRagESM
        The best.

    Raises
    ------
    StateshiftError
        Settings or data can't be used, or the output exists.
    """
    if resume is not None:
        if output is not None or init_from is not None:
            raise StateshiftError("--resume goes on in its own folder: leave out --output and --init-from.")
        run = Path(resume)
        told, last = _told(run), _last(run)
        changed = [o for o in overrides if o.partition("=")[0] not in ("max_steps", "val_every")]
        if changed:
            raise StateshiftError(
                f"A resumed run keeps its settings, max_steps and val_every aside: leave out {some(changed)}."
            )
        settings, data = settings_of(told["settings"], overrides), data or told["data"]
        train, val = read_data(data)
        if told.get("data_sha256") not in (None, _digest(data)):
            raise StateshiftError(
                f"{data} holds other clusters than {run} began with: name those with --data, or train anew."
            )
        trained = load_rag_esm(run / BEST, "cpu")
        trained.network.load_state_dict(last["network"])
    else:
        if data is None or output is None:
            raise StateshiftError("A training needs --data and --output, or --resume.")
        settings, last = read_settings(preset, overrides), None
        train, val = read_data(data)
        if init_from is not None:
            trained = load_rag_esm(init_from, "cpu")
        else:
            trained = new_rag_esm(settings.base, settings.cross_layers, settings.seed)
        told = {"data": str(Path(data).resolve()), "data_sha256": _digest(data), "base": trained.base}
        told["settings"] = settings.as_dict()
        run = _begun(Path(output), told)
    _fit(trained, settings, train, val, run, last)
    return load_rag_esm(run / BEST)


def _fit(
    trained: TrainedRagESM, settings: Settings, train: list[Cluster], val: list[Cluster], run: Path, last: dict | None
) -> None:
    """Lightning put together for what is left of a training."""
    done = last["step"] if last else 0
    if done >= settings.max_steps:
        raise StateshiftError(f"{run} is trained to step {done}: give it more with max_steps={done + 1000}.")
    limits = settings.val_proteins, settings.max_length, settings.max_context, settings.seed
    keeper = Keeper(
        trained, settings, run, validation_pairs(val, Contexts(settings.context, settings.top_k), *limits), last
    )
    module = Training(trained.network.train(), settings, last["optimiser"] if last else None)
    # Lightning's advice on devices, loggers and loaders: ours resume by themselves
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_steps=settings.max_steps - done,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        precision=settings.precision,
        devices=settings.devices,
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if last is None and trainer.is_global_zero:
        keeper.keep(0, None)
    start, stop = done * settings.accumulate, settings.max_steps * settings.accumulate
    batches = Batches(train, settings, start, stop, trainer.global_rank, trainer.world_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        fewer = (
            f"train anew with tokens_per_batch={settings.tokens_per_batch // 2} accumulate={2 * settings.accumulate}"
        )
        with enough_memory(fewer), told_how_to_go_on(f"stateshift rag-esm train --resume {run}"):
            trainer.fit(module, DataLoader(batches, batch_size=None))


class Keeper(lightning.Callback):
    """Validates, records and saves as training goes."""

    def __init__(
        self,
        trained: TrainedRagESM,
        settings: Settings,
        run: Path,
        pairs: list[tuple[str, str, str]],
        last: dict | None,
    ):
        self.trained, self.settings, self.run, self.pairs = trained, settings, run, pairs
        self.before = last["step"] if last else 0
        self.best = last["best"] if last else float("inf")
        self.losses: list[float] = []
        until_now = read_course(run / METRICS, self.before)
        self.begun = time.monotonic() - float(until_now[-1]["seconds"] if until_now else 0)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Training, outputs: Any, *_: Any) -> None:
        """Validate every `val_every` steps and behind the last."""
        self.losses.append(float(trainer.callback_metrics["loss"]))
        if len(self.losses) % self.settings.accumulate:
            return
        step = self.before + trainer.global_step
        if not np.isfinite(self.losses[-1]):
            raise StateshiftError(f"The loss is no number at step {step}: lower cross_lr or lr.")
        if step % self.settings.val_every == 0 or step == self.settings.max_steps:
            if trainer.is_global_zero:
                self.keep(step, trainer.optimizers[0].state_dict())
            # the best is read by all when training ends
            trainer.strategy.barrier()

    def keep(self, step: int, optimiser: dict | None) -> None:
        """Measure, write metrics, the best and the last."""
        network = self.trained.network.eval()
        found = perplexities(network, self.pairs, self.settings.tokens_per_batch)
        network.train()
        score = float(np.mean([np.log(found[f"ppl_{rate}"]) for rate in RATES]))
        loss = float(np.mean(self.losses)) if self.losses else float("nan")
        row = {"step": step, "loss": loss, **found, "seconds": round(time.monotonic() - self.begun, 1)}
        self.losses.clear()
        told = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
        # a training killed between this row and its last weights comes by here again
        write_course(self.run / METRICS, [*read_course(self.run / METRICS, step - 1), told])
        logger.info("step %d: %s", step, ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
        if score < self.best:
            self.best = score
            told = {"step": step, **found, "settings": self.settings.as_dict()}
            _replaced(TrainedRagESM(network, "", self.trained.base, told), self.run / BEST)
        if optimiser is not None:
            content = {"step": step, "best": self.best, "network": network.state_dict(), "optimiser": optimiser}
            with written_beside(self.run / LAST, overwrite=True) as part:
                torch.save(content, part)


def _replaced(trained: TrainedRagESM, folder: Path) -> None:
    """Write a model in place of an older one, which goes only when the new one lies whole beside it."""
    new, old = folder.with_name(".new"), folder.with_name(".old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    save_rag_esm(trained, new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _digest(data: str | Path) -> str:
    """What tells the clusters of a folder from others."""
    return " ".join(sha256(file) for file in data_files(data))


def _begun(run: Path, told: dict[str, Any]) -> Path:
    """The run's new folder with its settings; of several processes the first one makes it."""
    if not rank_zero_only.rank:
        (new_folder(run) / SETTINGS).write_text(yaml.safe_dump(told, sort_keys=False))
    return run


def _told(run: Path) -> dict[str, Any]:
    if not (run / SETTINGS).is_file():
        raise StateshiftError(f"{run} is no run of rag-esm train: it lacks {SETTINGS}.")
    with intact(run / SETTINGS, "Copy the run anew."):
        return dict(yaml.safe_load(yaml_text(run / SETTINGS)))


def _last(run: Path) -> dict[str, Any]:
    if not (run / LAST).is_file():
        raise StateshiftError(f"{run} stopped before its first checkpoint: train anew.")
    try:
        return read_tensors(run / LAST)
    except Exception as error:
        raise StateshiftError(f"{run / LAST} is damaged: {first_line(error)}") from error
