"""Train a transition model from an experiment TOML, or go on with a run."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stateshift.cells import Experiment, read_all, seen_elsewhere, split_counts
from stateshift.cells.experiment import parse_experiment
from stateshift.effects import ridge_map
from stateshift.errors import StateshiftError, suggestion
from stateshift.run import RunDirectory, new_run, open_run, refuse_taken
from stateshift.training.config import check_numbers, compose_config
from stateshift.training.data import TrainingData, make_loaders, prepare, storage_of

logger = logging.getLogger(__name__)

RESUMABLE = (
    "training.max_steps", "training.val_every", "training.accelerator", "training.precision",
    "data.num_workers", "data.memory_gb", "data.cache",
)  # fmt: skip
"""What may differ between a run and its continuation."""


def train(
    experiment: str | Path,
    overrides: Sequence[str] = (),
    *,
    pert_features: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    missing: str | None = None,
    cache: str | Path | None = None,
    output_dir: str | Path | None = None,
    name: str | None = None,
) -> Path:
    """Train the transition model and fit the effect models of an experiment.

    Parameters
    ----------
    experiment
        The TOML.
    overrides
        Hydra's words, as ``model=state_sm`` or ``training.max_steps=40000``; they win over ``[run]``.
    pert_features
        A feature table; it wins over ``[features]``.
    columns
        Entries that win over ``[columns]``.
    missing
        ``error`` (default) or ``drop``: what to do with perturbations whose genes have no vector.
        Dropped ones are named in the log and left out of every split.
    cache
        Where matrices of more than ``data.memory_gb`` are kept; it wins over ``data.cache``.
    output_dir, name
        The run becomes ``output_dir/name``; defaults ``runs`` and ``<experiment>_<model>``.

    Returns
    -------
    Path
        The run directory.

    Raises
    ------
    StateshiftError
        Anything wrong with the input, before anything is written.
    """
    parsed, _ = parse_experiment(experiment, columns)
    config = experiment_config(parsed, overrides)
    if cache is not None:
        config["data"]["cache"] = str(cache)
    name = name or config["name"] or parsed.run.get("name") or f"{parsed.path.stem}_{config['model']['name']}"
    if Path(name).name != name:
        raise StateshiftError(f"--name {name} is no plain folder name: --output-dir says where it goes.")
    folder = Path(output_dir or parsed.run.get("output_dir") or config["output_dir"]) / name
    refuse_taken(folder)
    read, cells, split = read_all(experiment, columns, storage=storage_of(config))
    for sentence in seen_elsewhere(read, cells, split):
        logger.info("%s", sentence)
    data = prepare(read, cells, split, pert_features=pert_features, missing=missing, seed=config["seed"])
    config |= {"name": name, "output_dir": ".", "scale": cells.scale}
    module = _module(config, data)
    table = pert_features or read.features.get("table")
    if table is not None:
        config["feature_table"] = os.path.relpath(read.resolve(table), folder)
    run = new_run(folder)
    try:
        _write_inputs(run, read, config, data)
        _fit(run, config, data, module)
    except BaseException:
        if not run.last.is_file():
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run.path


def resume(run_path: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Go on with a run from its last checkpoint, to ``training.max_steps``.

    Parameters
    ----------
    run_path
        The run directory.
    overrides
        Of `RESUMABLE` settings alone, as ``training.max_steps=80000``.

    Raises
    ------
    StateshiftError
        It is no run, it has no last checkpoint, or the data no longer fit it.
    """
    import yaml

    run = open_run(run_path)
    if not run.last.is_file():
        raise StateshiftError(f"{run.path} has no checkpoints/last.ckpt to resume from: train again under a new name.")
    config = run.config()
    for override in overrides:
        _override(config, override)
    check_numbers(config)
    done = _steps_done(run)
    if config["training"]["max_steps"] <= done:
        raise StateshiftError(f"{run.path} is at step {done} already: go further with training.max_steps=…")
    read, cells, split = read_all(run.experiment_file, beside_only=True, storage=storage_of(config))
    data = prepare(read, cells, split, pert_features=run.features_file, missing="drop", seed=config["seed"])
    if cells.genes != run.genes():
        raise StateshiftError(f"{run.experiment_file}: the data's genes are no longer those of the run's genes.txt.")
    module = _module(config, data)
    run.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
    _fit(run, config, data, module, first_batch=done, checkpoint=run.last)
    return run.path


def _module(config: dict[str, Any], data: TrainingData) -> Any:
    import lightning

    from stateshift.transition import TransitionModule
    from stateshift.transition.checkpoint import config_from

    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    shape = config_from(config["model"], len(data.cells.genes), data.features.width, data.cells.scale)
    module = TransitionModule(shape, lr=config["training"]["lr"], loss=config["loss"])
    if shape.start == "effect":
        import torch

        module.model.set_start(*map(torch.from_numpy, ridge_map(data.effects, data.features, config["seed"])))
    return module


def _fit(
    run: RunDirectory,
    config: dict[str, Any],
    data: TrainingData,
    module: Any,
    first_batch: int = 0,
    checkpoint: Path | None = None,
) -> None:
    """Train from a batch on, after a checkpoint where there is one, to ``training.max_steps``."""
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from stateshift.training.recorder import RunRecorder

    settings = config["training"]
    training, validation, drift = make_loaders(config, data, first_batch)
    recorder = RunRecorder(run, validation, drift, settings["val_every"], training.dataset.batches_an_epoch)
    with _quiet_lightning():
        try:
            trainer = lightning.Trainer(
                max_steps=settings["max_steps"],
                accelerator=settings["accelerator"],
                devices=1,
                precision=settings["precision"],
                gradient_clip_val=settings["gradient_clip"],
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                callbacks=[recorder],
                default_root_dir=run.path,
            )
        except (MisconfigurationException, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise StateshiftError(
                f"training.accelerator={settings['accelerator']}, training.precision={settings['precision']}: {reason}"
            ) from error
        try:
            trainer.fit(module, training, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            logger.warning("stopped: go on with  stateshift train --resume %s", run.path)
            raise KeyboardInterrupt from None
    logger.info(
        "best validation loss %.5f at step %d of %d", recorder.best_loss, recorder.best_step, trainer.global_step
    )


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's advice on workers, devices and resumable loaders: our sets resume by themselves."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


def _steps_done(run: RunDirectory) -> int:
    import torch

    try:
        return int(torch.load(run.last, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:
        raise StateshiftError(f"{run.last} can't be read: {str(error).splitlines()[0][:160]}") from error


def experiment_config(experiment: Experiment, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config of an experiment: its ``[run]`` table, then the overrides."""
    model = [f"model={experiment.run['model']}"] if "model" in experiment.run else []
    return compose_config([*model, *experiment.run.get("overrides", []), *overrides])


def _override(config: dict[str, Any], override: str) -> None:
    """Change a setting of a stored config that a resumed training can honour."""
    import yaml

    key, equals, value = override.partition("=")
    if not equals or key not in RESUMABLE:
        raise StateshiftError(f"`{override}` can't be changed on a resume{suggestion(key, RESUMABLE)}.")
    group, name = key.split(".")
    config[group][name] = yaml.safe_load(value)


def _write_inputs(run: RunDirectory, experiment: Experiment, config: dict[str, Any], data: TrainingData) -> None:
    import toml
    import yaml

    raw = toml.load(experiment.path)
    raw["datasets"] = {name: os.path.relpath(pattern, run.path) for name, pattern in experiment.patterns.items()}
    if experiment.columns:
        raw["columns"] = experiment.columns
    raw.pop("features", None)
    raw.pop("run", None)
    run.write_text("experiment.toml", toml.dumps(raw))
    run.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
    run.write_genes(data.cells.genes)
    data.features.save(run.features_file)
    run.write_splits(split_counts(data.cells, data.split))
    run.write_versions()
    data.effects.save(run.effects_file)
