"""Lightning put together for a run, and run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from stateshift.cells import estimate_effects, split_counts
from stateshift.errors import StateshiftError, enough_memory, first_line
from stateshift.memory import kept_for_reuse
from stateshift.progress import quiet_lightning, told_how_to_go_on
from stateshift.run import RunDirectory
from stateshift.training.anchored import KeepRule, log_verdicts, read_verdicts, too_few_to_judge
from stateshift.training.config import training_settings
from stateshift.training.data import TrainingData
from stateshift.training.loop.average import WeightAverage
from stateshift.training.loop.loaders import training_loader, validation_loaders
from stateshift.training.loop.loggers import finish, make_loggers
from stateshift.training.loop.random_state import RandomState
from stateshift.training.loop.recorder import RunRecorder
from stateshift.training.loop.restored import Restored
from stateshift.training.loop.validation import Validator
from stateshift.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def fit(
    run: RunDirectory,
    config: dict[str, Any],
    data: TrainingData,
    module: lightning.LightningModule,
    done: int = 0,
    checkpoint: Path | None = None,
) -> None:
    """Train to ``training.max_steps``, from a checkpoint after `done` steps where there is one.

    Raises
    ------
    StateshiftError
        The devices can't train so, the memory doesn't suffice, a process that makes batches died, or a loss became no
        number.
    """
    settings = training_settings(config)
    average = WeightAverage(settings.ema) if settings.ema is not None else None
    restored = Restored(checkpoint, config)
    with quiet_lightning(), kept_for_reuse(), restored.or_named():
        trainer = _trainer(settings, make_loggers(settings.loggers, run, config), run)
        measured = estimate_effects(data.cells.every_gene or data.cells, data.split == "val")
        validator = Validator(*validation_loaders(config, data), measured)
        keep = None
        if data.starts is not None:
            # the first step of a fine-tuning is its source's network, and that of any other the backbone
            backbone = validator.score(data.starts.effects_of(measured)) if "init_from" in config else None
            if doubt := too_few_to_judge(split_counts(data.cells, data.split)):
                logger.warning(doubt)
            regimes = data.starts.regimes_of(measured)
            keep = KeepRule(run, measured.perturbations, regimes, config["seed"], backbone)
        recorder = RunRecorder(run, validator, settings, average, keep)
        trainer.callbacks.extend([restored, RandomState(), *([average] if average else []), recorder])
        module.model.transformer_backbone.checkpointing = settings.gradient_checkpointing
        if settings.compile:
            module.model.compile()
        try:
            with enough_memory(_smaller(config)), told_how_to_go_on(f"stateshift train --resume {run.path}"):
                trainer.fit(
                    module, datamodule=TrainingSets(config, data, done), ckpt_path=checkpoint, weights_only=True
                )
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = first_line(error)
            raise StateshiftError(f"training.compile=true: torch.compile can't do it here: {reason}") from error
        except (RuntimeError, ConnectionError, EOFError) as error:
            # a worker that dies as it hands a batch over breaks the connection
            torn = config["data"]["num_workers"] > 0 and not isinstance(error, RuntimeError)
            if not (torn or "DataLoader worker" in str(error)):
                raise
            raise StateshiftError(
                "A process that makes batches was killed, for want of memory perhaps: go on with  stateshift train --resume "
                f"{run.path} data.num_workers={config['data']['num_workers'] // 2}"
            ) from error
        finally:
            finish(settings.loggers)
    if keep is not None:
        log_verdicts(read_verdicts(run))
    logger.info("best by %s: step %d of %d", settings.select_by, recorder.best_step, trainer.global_step)


def _smaller(config: dict[str, Any]) -> str:
    """What to try where the memory doesn't suffice, as the end of a sentence."""
    batch, accumulate = config["data"]["batch_size"], config["training"].get("accumulate", 1)
    if batch > 1:
        half = -(-batch // 2)
        return (
            f"train anew under another --name with data.batch_size={half} training.accumulate={2 * accumulate}, which learns "
            "from as many cells a step"
        )
    if not config["training"].get("gradient_checkpointing"):
        return "go on with training.gradient_checkpointing=true (stateshift train --resume)"
    return f"train anew under another --name with model.set_size={max(1, config['model']['set_size'] // 2)}"


class TrainingSets(lightning.LightningDataModule):
    """The training sets after some steps, made when a process knows which share is its own."""

    def __init__(self, config: dict[str, Any], data: TrainingData, done: int):
        super().__init__()
        self.config, self.data, self.done = config, data, done

    def train_dataloader(self) -> Any:
        """This process's share."""
        first_batch = self.done * self.config["training"].get("accumulate", 1)
        trainer = self.trainer
        return training_loader(self.config, self.data, first_batch, trainer.global_rank, trainer.world_size)


def _trainer(settings: TrainingSettings, loggers: list[Any], run: RunDirectory) -> lightning.Trainer:
    try:
        trainer = lightning.Trainer(
            max_steps=settings.max_steps,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=_strategy(settings),
            precision=settings.precision,
            gradient_clip_val=settings.gradient_clip,
            accumulate_grad_batches=settings.accumulate,
            use_distributed_sampler=False,
            logger=loggers or False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            default_root_dir=run.path,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise StateshiftError(
            f"training.accelerator={settings.accelerator}, training.devices={settings.devices}, "
            f"training.strategy={settings.strategy}, training.precision={settings.precision}: {reason}"
        ) from error
    on_cpus = isinstance(trainer.strategy, ModelParallelStrategy) and trainer.strategy.root_device.type == "cpu"
    if on_cpus and torch.__version__.startswith("2.7."):
        raise StateshiftError(
            "training.strategy=fsdp: torch 2.7 sums gradients on CPUs where it is to average them; say "
            "training.strategy=ddp, or install torch 2.8 or later."
        )
    return trainer


def _strategy(settings: TrainingSettings) -> Strategy | str:
    if settings.strategy == "fsdp" and settings.processes > 1:
        # "auto" would take the processes of a machine for parts of one product, whose gradients nobody averages
        return ModelParallelStrategy(settings.processes, tensor_parallel_size=1, save_distributed_checkpoint=False)
    return "ddp" if settings.strategy == "ddp" or settings.processes > 1 else "auto"
