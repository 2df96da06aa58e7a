"""Launch a sweep: every combination of swept values a run, started again where it was stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stateshift.cells import Experiment
from stateshift.cells.experiment import read_experiment
from stateshift.errors import StateshiftError, some
from stateshift.files import sha256
from stateshift.training.config import training_settings
from stateshift.training.data import made_features, refuse_other_inputs, refuse_unread_features, with_features
from stateshift.training.loop.loggers import refuse_absent
from stateshift.training.sweep.folder import SweepFolder
from stateshift.training.sweep.job import SweepJob
from stateshift.training.sweep.launch import launch, refuse_absent_launcher
from stateshift.training.sweep.words import SweepWords, quoted, run_names, values_of
from stateshift.training.train import experiment_config

logger = logging.getLogger(__name__)


def sweep(
    experiment: str | Path,
    overrides: Sequence[str],
    *,
    pert_features: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    missing: str | None = None,
    init_from: str | Path | None = None,
    cache: str | Path | None = None,
    output_dir: str | Path | None = None,
    name: str | None = None,
) -> Path:
    """Train a run for every combination of the overrides' values, through Hydra's sweeper and launchers.

    Started again with the same words, it passes over finished runs, goes on with stopped ones and tries failed ones
    anew; more values of the swept keys add runs. A run that fails stops no other.

    Parameters
    ----------
    experiment
        The TOML.
    overrides
        Hydra's words; those with several values are swept: ``model=state_tiny,state_sm``, ``seed=range(3)``,
        ``features=onehot,genept.pt``. ``hydra/launcher=joblib``, ``submitit_local`` or ``submitit_slurm`` runs
        several at once (extra ``sweep``); ``hydra.launcher.…`` are the launcher's own settings.
    pert_features, columns, missing, init_from, cache
        As `stateshift.training.train` takes them, for all runs.
    output_dir, name
        The sweep becomes ``output_dir/name``; defaults ``runs`` and ``<experiment>_sweep``.

    Returns
    -------
    Path
        The folder: a run directory for each combination, named by its values, and ``jobs/`` with each one's state
        and log.

    Raises
    ------
    StateshiftError
        Anything wrong with the words, before the first run; another sweep in the folder; no run finished.
    """
    words = SweepWords.parse(overrides)
    refuse_absent_launcher(words.hydra)
    parsed = read_experiment(experiment, columns)
    names = run_names(words)
    config = _checked(parsed, words, pert_features)
    folder = SweepFolder(
        Path(output_dir or parsed.run.get("output_dir") or config["output_dir"]) / (name or f"{parsed.path.stem}_sweep")
    )
    folder.begin(
        {
            "experiment": parsed.path.name,
            "experiment_sha256": sha256(parsed.path),
            "swept": sorted(words.swept),
            "overrides": sorted(words.fixed),
            "pert_features": Path(pert_features).name if pert_features else None,
            "columns": {key: value for key, value in (columns or {}).items() if value is not None},
            "missing": missing,
            "init_from": Path(init_from).name if init_from else None,
        }
    )
    options = {
        "pert_features": Path(pert_features).resolve() if pert_features else None,
        "columns": columns,
        "missing": missing,
        "init_from": Path(init_from).resolve() if init_from else None,
        "cache": Path(cache).resolve() if cache else None,
    }
    tables = {} if pert_features else _tables(parsed, words, folder, config, columns, missing)
    folder = SweepFolder(folder.path.resolve())
    keys = tuple(folder.settings()["swept"])
    folder.await_runs(dict(zip(names, (values_of(words_of, keys) for words_of in words.combinations()))))
    job = SweepJob(folder, parsed.path.resolve(), keys, tables, options)
    launch(job, words.all_words(), folder.path, folder.path / "jobs")
    return _concluded(folder, names)


def _checked(experiment: Experiment, words: SweepWords, pert_features: str | Path | None) -> dict[str, Any]:
    """The config of the first run, once every value of every key has made a config that can train."""
    first = words.combinations()[0]
    configs = [experiment_config(experiment, [*words.fixed, *first])]
    for i, (key, values) in enumerate(words.swept.items()):
        configs += [
            experiment_config(experiment, [*words.fixed, *first[:i], f"{key}={value}", *first[i + 1 :]])
            for value in values[1:]
        ]
    for config in configs:
        settings = training_settings(config)
        refuse_absent(settings.loggers)
        if pert_features is None:
            refuse_unread_features(experiment, config)
            with_features(experiment, config["features"])
        if settings.processes > 1 and "hydra/launcher=submitit_slurm" not in words.hydra:
            raise StateshiftError(
                f"{settings.processes} processes a run start by repeating the command, which here is a whole sweep: "
                "leave out training.devices and training.nodes, or let Slurm start them "
                "(hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=…)."
            )
    if pert_features is not None and "features" in words.swept:
        raise StateshiftError("--pert-features names the features of every run: leave it out to sweep over features.")
    return configs[0]


def _tables(
    experiment: Experiment,
    words: SweepWords,
    folder: SweepFolder,
    config: dict[str, Any],
    columns: Mapping[str, str] | None,
    missing: str | None,
) -> dict[str | None, str]:
    """The features of each source made once for all runs: value of ``features`` → the word that names their table."""
    from stateshift.cells import perturbed_genes

    choices = [values_of([f"features={v}"], ["features"])["features"] for v in words.swept.get("features", [])]
    named = bool(choices) or any(word.startswith("features=") for word in words.fixed)
    tables = {}
    for choice in choices or [config["features"]]:
        wanted = with_features(experiment, choice)
        if "table" in wanted.features or not wanted.features:
            continue
        path = folder.table(wanted.features.get("source", "esm2"))
        if path.is_file():
            refuse_other_inputs(wanted, path)
        else:
            policy = missing or wanted.features.get("missing", "error")
            made_features(wanted, perturbed_genes(experiment.path, columns), path, policy).save(path)
        tables[choice if named else None] = f"features={quoted(path.resolve())}"
    return tables


def _concluded(folder: SweepFolder, names: Sequence[str]) -> Path:
    """The folder, once something in it has finished."""
    records = folder.records()
    finished = [name for name in names if name in records and records[name].state == "finished"]
    if not finished:
        errors = sorted({record.error for record in records.values() if record.error})
        raise StateshiftError(f"No run of {folder.path} finished: {some(errors, 3)}")
    logger.info("%s: %d of %d runs are finished", folder.path, len(finished), len(names))
    return folder.path
