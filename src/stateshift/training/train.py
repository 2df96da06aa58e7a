"""Train a transition model from an experiment TOML."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.cells import Experiment, read_all, seen_elsewhere, split_counts
from stateshift.cells.checks.inspection import leaks_into
from stateshift.cells.experiment import parse_experiment
from stateshift.errors import StateshiftError
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.files import intact
from stateshift.run import WAY_OUT, RunDirectory, new_run, refuse_taken
from stateshift.surroundings import left_alone
from stateshift.training.anchored import fit_starts
from stateshift.training.config import ENERGY_ALONE, compose_config, idle_words, training_settings
from stateshift.training.data import (
    TrainingData,
    batch_names,
    prepare,
    refuse_unread_features,
    storage_of,
    with_features,
)
from stateshift.training.esm import equip, find_embedder
from stateshift.training.loop.loggers import refuse_absent
from stateshift.training.start import begin, find_source, hold_still, model_group, read_transfer, write_transfer

if TYPE_CHECKING:
    from stateshift.transition import TransitionModule
    from stateshift.transition.fine_tuning.source import Source
    from stateshift.transition.fine_tuning.transfer import Transfer

logger = logging.getLogger(__name__)


@left_alone()
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
    for sentence in idle_words(config, words):
        logger.warning("%s", sentence)
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
    refuse_other_processes(training_settings(config).processes)
    config["features"] = None if pert_features else config["features"]
    refuse_unread_features(parsed, config)
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
    data = prepare(read, cells, split, pert_features=pert_features, missing=missing, **kept_back(config))
    for sentence in leaks_into(data.features, read, split_counts(cells, split)):
        logger.warning("%s", sentence)
    config |= {"name": name, "output_dir": ".", "scale": cells.scale}
    if cells.every_gene is not None:
        config["every_gene_scale"] = cells.every_gene.scale
    embedder = find_embedder(read, data.features) if config["model"].get("encoder") == "esm" else None
    module, transfer = make_module(config, data, source, embedder)
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


def kept_back(config: dict[str, Any]) -> dict[str, Any]:
    """How `prepare` keeps cells back: a network beside a backbone is judged on pairs that are new to both."""
    return {"seed": config["seed"], "whole_pairs": config["model"].get("start") == "backbone"}


def make_module(
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
        with intact(run.last, WAY_OUT):
            take_start(module.model, trained)
            make_room(module.model, trained)
    if shape.unfreeze_esm_layers and settings.precision == "bf16-true":
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


def refuse_other_processes(asked: int) -> None:
    """A StateshiftError where Slurm started more or fewer processes than a training asks for.

    Fewer would be waited for without an end, and of more each would train the run. Lightning leaves starting to Slurm wherever
    the job tells a number of tasks; in one called ``bash`` or ``interactive`` it starts them itself.
    """
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun starts them, in a job of Slurm's too
        return
    started = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if started != asked:
        raise StateshiftError(
            f"training.devices × training.nodes asks for {asked} processes, and Slurm started {started} here: give the "
            "command as  srun --nodes=NODES --ntasks-per-node=DEVICES stateshift train …  with the same numbers."
        )


def experiment_config(experiment: Experiment, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config of an experiment: its ``[run]`` table, then the overrides."""
    return compose_config(config_words(experiment, overrides))


def config_words(experiment: Experiment, overrides: Sequence[str] = ()) -> list[str]:
    """The overrides of an experiment's ``[run]`` table, then the others."""
    model = [f"model={experiment.run['model']}"] if "model" in experiment.run else []
    return [*model, *experiment.run.get("overrides", []), *overrides]


def _write_inputs(run: RunDirectory, experiment: Experiment, config: dict[str, Any], data: TrainingData) -> None:
    import toml

    raw = toml.load(experiment.path)
    raw["datasets"] = {name: os.path.relpath(pattern, run.path) for name, pattern in experiment.patterns.items()}
    if experiment.columns:
        raw["columns"] = experiment.columns
    raw.pop("features", None)
    raw.pop("run", None)
    run.write_text("experiment.toml", toml.dumps(raw))
    write_config(run, config)
    run.write_genes(data.cells.genes)
    if data.every_gene is not None:
        run.write_every_gene(data.every_gene.genes)
    if batches := batch_names(config, data):
        run.write_batches(batches)
    data.features.save(run.features_file)
    run.write_splits(split_counts(data.cells, data.split))
    run.write_versions()
    data.predicted.save(run.effects_file)


def write_config(run: RunDirectory, config: dict[str, Any]) -> None:
    """Keep a config in its run, but for the cache, which is this machine's own: a run that moves has none."""
    import yaml

    stored = {**config, "data": {**config["data"], "cache": None}}
    run.write_text("config.yaml", yaml.safe_dump(stored, sort_keys=False))
