"""Go on with a run that was stopped, or further than it was to go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stateshift.cells import read_all, split_counts
from stateshift.course import read_course
from stateshift.errors import StateshiftError, first_line, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.files import read_tensors
from stateshift.run import WAY_OUT, RunDirectory, open_run
from stateshift.surroundings import left_alone
from stateshift.training.config import check_config, training_settings
from stateshift.training.data import batch_names, prepare, storage_of
from stateshift.training.loop.loggers import refuse_absent
from stateshift.training.settings import RESUMABLE, TrainingSettings
from stateshift.training.start import find_source
from stateshift.training.train import is_first_process, kept_back, make_module, refuse_other_processes, write_config


@left_alone()
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
    from stateshift.training.loop.fit import fit
    from stateshift.transition.checkpoint import config_of

    config = run.config()
    for override in overrides:
        _override(config, override)
    check_config(config)
    settings = training_settings(config)
    refuse_absent(settings.loggers)
    refuse_other_processes(settings.processes)
    done, finished = progress_of(run, settings)
    if finished:
        raise StateshiftError(finished)
    shape = config_of(run, FeatureTable.load(run.features_file).width)
    read, cells, split = read_all(
        run.experiment_file, beside_only=True, storage=storage_of(config), every_gene=shape.predicts_every_gene
    )
    held = {(p, context) for context, of in run.splits().get("val", {}).items() for p in of}
    data = prepare(read, cells, split, pert_features=run.features_file, missing="drop", held=held, **kept_back(config))
    if cells.genes != run.genes() or (cells.every_gene and cells.every_gene.genes != run.every_gene()):
        raise StateshiftError(
            f"{run.experiment_file}: the data's genes are no longer those of the run's genes.txt and every_gene.txt."
        )
    if split_counts(data.cells, data.split) != run.splits():
        raise StateshiftError(f"{run.experiment_file}: the data's cells are no longer those of splits.json. {WAY_OUT}")
    if batch_names(config, data) != run.batches():
        raise StateshiftError(f"{run.experiment_file}: the training cells' batches are no longer those of batches.txt.")
    # a run that was killed before its first checkpoint has nothing of its source yet
    source = find_source(run.path / config["init_from"]) if done is None and "init_from" in config else None
    module, _ = make_module(config, data, source, GeneEmbedder.of_run(run), run)
    if is_first_process():
        run.clear_half_written()
        write_config(run, config)
    fit(run, config, data, module, done or 0, run.last if done is not None else None)


def progress_of(run: RunDirectory, settings: TrainingSettings) -> tuple[int | None, str]:
    """How far a run is.

    Returns
    -------
    tuple
        Steps done, None where it was killed before its first checkpoint; and why there is nothing to go on with,
        as a sentence, empty where there is.

    Raises
    ------
    StateshiftError
        A checkpoint was lost or is damaged.
    """
    if not run.last.is_file():
        # the row of a step is written before the checkpoint that goes on from it
        if any(int(row["step"]) for row in read_course(run.metrics_file, sys.maxsize)):
            raise StateshiftError(f"{run.path} has lost its checkpoints/{run.last.name}. {WAY_OUT}")
        return None, ""
    if not run.best.is_file():
        raise StateshiftError(f"{run.path} has lost its checkpoints/{run.best.name}. {WAY_OUT}")
    try:
        stored = read_tensors(run.last, mmap=True)
        done, best_step = int(stored["global_step"]), int(stored["callbacks"]["RunRecorder"]["best_step"])
    except Exception as error:
        raise StateshiftError(f"{run.last} can't be read: {first_line(error)}") from error
    if settings.max_steps <= done:
        return done, f"{run.path} is at step {done} already: go further with training.max_steps=…"
    if settings.patience and (done - best_step) // settings.val_every >= settings.patience:
        return done, (
            f"{run.path} stopped at step {done}, {settings.patience} validations after its best: go further with a "
            "larger training.patience=…"
        )
    return done, ""


def _override(config: dict[str, Any], override: str) -> None:
    """Change a setting of a stored config that a resumed training can honour."""
    import yaml

    key, equals, value = override.partition("=")
    if not equals or key not in RESUMABLE:
        raise StateshiftError(f"`{override}` can't be changed on a resume{suggestion(key, RESUMABLE)}.")
    group, name = key.split(".")
    config[group][name] = yaml.safe_load(value)
