"""Train a transition model from an experiment TOML, or go on with a run."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.cells import Experiment, read_all, seen_elsewhere, split_counts
from stateshift.cells.checks.inspection import leaks_into
from stateshift.cells.experiment import parse_experiment
from stateshift.errors import StateshiftError, first_line, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.files import read_tensors
from stateshift.run import RunDirectory, new_run, open_run, refuse_taken
from stateshift.training.anchored import fit_starts
from stateshift.training.config import ENERGY_ALONE, check_config, compose_config, training_settings
from stateshift.training.data import TrainingData, batch_names, prepare, storage_of, with_features
from stateshift.training.esm import equip, find_embedder
from stateshift.training.loop.loggers import refuse_absent
from stateshift.training.settings import TrainingSettings
from stateshift.training.start import begin, find_source, hold_still, model_group, read_transfer, write_transfer

if TYPE_CHECKING:
    from stateshift.transition import TransitionModule
    from stateshift.transition.fine_tuning.source import Source
    from stateshift.transition.fine_tuning.transfer import Transfer

logger = logging.getLogger(__name__)

RESUMABLE = (
    "training.max_steps", "training.val_every", "training.patience", "training.accelerator", "training.precision",
    "training.compile", "training.gradient_checkpointing", "training.loggers",
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
    init_from: str | Path | None = None,
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
        A feature table; it wins over ``features`` in the overrides, which wins over ``[features]``.
    columns
        Entries that win over ``[columns]``.
    missing
        ``error`` (default) or ``drop``: what to do with perturbations whose genes have no vector.
        Dropped ones are named in the log and left out of every split.
    init_from
        A trained model to fine-tune: a run directory, one of arc-state's, or a ``.ckpt`` of either. The model's
        options are its own but for those that the overrides name; what was kept of its weights stands in the run's
        ``init_from.json`` (`stateshift.training.start.read_transfer`).
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
    from stateshift.training.loop.fit import fit

    parsed, _ = parse_experiment(experiment, columns)
    config = experiment_config(parsed, overrides)
    words = [*parsed.run.get("overrides", []), *overrides]  # [run] model yields to what is fine-tuned
    source = find_source(init_from, training_settings(config))
    if source is not None:
        config["model"] = model_group(config["model"], words, source)
    if cache is not None:
        config["data"]["cache"] = str(Path(cache).resolve())
    name = name or config["name"] or parsed.run.get("name") or f"{parsed.path.stem}_{config['model']['name']}"
    if Path(name).name != name:
        raise StateshiftError(f"--name {name} is no plain folder name: --output-dir says where it goes.")
    folder = Path(output_dir or parsed.run.get("output_dir") or config["output_dir"]) / name
    refuse_absent(training_settings(config).loggers)
    config["features"] = None if pert_features else config["features"]
    declared = with_features(parsed, config["features"]).features
    if is_first_process():
        refuse_taken(folder)
    read, cells, split = read_all(experiment, columns, storage=storage_of(config))
    read = replace(read, features=declared)
    for sentence in seen_elsewhere(read, cells, split):
        logger.info("%s", sentence)
    if source is not None:
        config["model"] = model_group(config["model"], words, source, cells)
        config["init_from"] = os.path.relpath(source.path, folder)
    data = prepare(read, cells, split, pert_features=pert_features, missing=missing, **_kept_back(config))
    for sentence in leaks_into(data.features, read, split_counts(cells, split)):
        logger.warning("%s", sentence)
    config |= {"name": name, "output_dir": ".", "scale": cells.scale}
    if cells.every_gene is not None:
        config["every_gene_scale"] = cells.every_gene.scale
    embedder = find_embedder(read, data.features) if config["model"].get("encoder") == "esm" else None
    module, transfer = _module(config, data, source, embedder)
    if not module.model.config.predicts_every_gene:
        cells.every_gene = None  # its effects are kept, and training reads it no more
    table = pert_features or read.features.get("table")
    if table is not None:
        config["feature_table"] = os.path.relpath(read.resolve(table), folder)
        config["features"] = config["features"] and Path(config["features"]).name
    if not is_first_process():
        fit(RunDirectory(folder), config, data, module)
        return folder
    run = new_run(folder)
    with run.alone():
        try:
            _write_inputs(run, read, config, data)
            write_transfer(run, transfer)
            if embedder is not None:
                embedder.save(run)
            fit(run, config, data, module)
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
        It is no run, another process trains it, it has no last checkpoint, or the data no longer fit it.
    """
    run = open_run(run_path)
    with run.alone() if is_first_process() else nullcontext():
        _go_on(run, overrides)
    return run.path


def _go_on(run: RunDirectory, overrides: Sequence[str]) -> None:
    """`resume`, with the run to itself."""
    import yaml

    from stateshift.training.loop.fit import fit
    from stateshift.transition.checkpoint import config_of

    config = run.config()
    for override in overrides:
        _override(config, override)
    check_config(config)
    settings = training_settings(config)
    refuse_absent(settings.loggers)
    done = _refuse_finished(run, settings)
    shape = config_of(run, FeatureTable.load(run.features_file).width)
    read, cells, split = read_all(
        run.experiment_file, beside_only=True, storage=storage_of(config), every_gene=shape.predicts_every_gene
    )
    held = {(p, context) for context, of in run.splits().get("val", {}).items() for p in of}
    data = prepare(read, cells, split, pert_features=run.features_file, missing="drop", held=held, **_kept_back(config))
    if cells.genes != run.genes() or (cells.every_gene and cells.every_gene.genes != run.every_gene()):
        raise StateshiftError(
            f"{run.experiment_file}: the data's genes are no longer those of the run's genes.txt and every_gene.txt."
        )
    if batch_names(config, data) != run.batches():
        raise StateshiftError(f"{run.experiment_file}: the training cells' batches are no longer those of batches.txt.")
    # a run that was killed before its first checkpoint has nothing of its source yet
    source = find_source(run.path / config["init_from"]) if done is None and "init_from" in config else None
    module, _ = _module(config, data, source, GeneEmbedder.of_run(run), run)
    if is_first_process():
        run.clear_half_written()
        run.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
    fit(run, config, data, module, done or 0, run.last if done is not None else None)


def _kept_back(config: dict[str, Any]) -> dict[str, Any]:
    """How `prepare` keeps cells back: a network beside a backbone is judged on pairs that are new to both."""
    return {"seed": config["seed"], "whole_pairs": config["model"].get("start") == "backbone"}


def _module(
    config: dict[str, Any],
    data: TrainingData,
    source: Source | None,
    embedder: GeneEmbedder | None,
    run: RunDirectory | None = None,
) -> tuple[TransitionModule, Transfer | None]:
    """The module of a config, and what it took from its source, now or when `run` began."""
    import lightning

    from stateshift.transition import TransitionModule
    from stateshift.transition.checkpoint import config_from, make_room, read_weights, take_start
    from stateshift.transition.encoders.sources import source_widths
    from stateshift.transition.optimiser import Optimiser

    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    every_gene = 0 if data.every_gene is None else len(data.every_gene.genes)
    if config["model"].get("encoder") == "sources":
        config["model"]["source_widths"] = source_widths(data.features)
    shape = config_from(
        config["model"], len(data.cells.genes), data.features.width, data.cells.scale, len(batch_names(config, data)),
        every_gene,
    )  # fmt: skip
    settings = training_settings(config)
    optimiser = Optimiser(**{f.name: getattr(settings, f.name) for f in fields(Optimiser)})
    module = TransitionModule(shape, optimiser, config.get("loss", ENERGY_ALONE))
    if shape.start == "backbone":
        genes = data.predicted.genes if shape.projects_every_gene else data.cells.genes
        data.starts = fit_starts(data, genes, config["seed"])
    trained = read_weights(run.last) if run is not None and run.last.is_file() else None
    if trained is not None:
        take_start(module.model, trained)
        make_room(module.model, trained)
    if shape.unfreeze_esm_layers and settings.precision in ("bf16-true", "16-true"):
        raise StateshiftError(
            f"training.precision={settings.precision}: ESM2's layers are trained in 32-true, or mixed as in bf16-mixed."
        )
    if shape.encoder == "esm":
        equip(module.model, data.features, embedder, data.cells.control)
    if trained is not None:
        transfer = read_transfer(run)
    else:
        transfer = begin(module.model, source, data, batch_names(config, data), config["seed"])
    if transfer is not None:
        hold_still(module.model, settings, transfer)
    return module, transfer


def is_first_process() -> bool:
    """Whether this process writes the run, by what torchrun, Slurm or Lightning say of it."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


def _refuse_finished(run: RunDirectory, settings: TrainingSettings) -> int | None:
    """Steps that a run has done, None where it was killed before its first checkpoint."""
    done, reason = progress_of(run, settings)
    if reason:
        raise StateshiftError(reason)
    return done


def progress_of(run: RunDirectory, settings: TrainingSettings) -> tuple[int | None, str]:
    """How far a run is.

    Returns
    -------
    tuple
        Steps done, None where it was killed before its first checkpoint; and why there is nothing to go on with,
        as a sentence, empty where there is.
    """
    if not run.last.is_file():
        return None, ""
    try:
        stored = read_tensors(run.last, mmap=True)
        done, recorder = int(stored["global_step"]), stored["callbacks"]["RunRecorder"]
    except Exception as error:
        raise StateshiftError(f"{run.last} can't be read: {first_line(error)}") from error
    if settings.max_steps <= done:
        return done, f"{run.path} is at step {done} already: go further with training.max_steps=…"
    if settings.patience and (done - recorder["best_step"]) // settings.val_every >= settings.patience:
        return done, (
            f"{run.path} stopped at step {done}, {settings.patience} validations after its best: go further with a "
            "larger training.patience=…"
        )
    return done, ""


def experiment_config(experiment: Experiment, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config of an experiment: its ``[run]`` table, then the overrides."""
    return compose_config(config_words(experiment, overrides))


def config_words(experiment: Experiment, overrides: Sequence[str] = ()) -> list[str]:
    """The overrides of an experiment's ``[run]`` table, then the others."""
    model = [f"model={experiment.run['model']}"] if "model" in experiment.run else []
    return [*model, *experiment.run.get("overrides", []), *overrides]


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
    # the cache is this machine's own: a run that moves has none
    stored = {**config, "data": {**config["data"], "cache": None}}
    run.write_text("config.yaml", yaml.safe_dump(stored, sort_keys=False))
    run.write_genes(data.cells.genes)
    if data.every_gene is not None:
        run.write_every_gene(data.every_gene.genes)
    if batches := batch_names(config, data):
        run.write_batches(batches)
    data.features.save(run.features_file)
    run.write_splits(split_counts(data.cells, data.split))
    run.write_versions()
    data.predicted.save(run.effects_file)
