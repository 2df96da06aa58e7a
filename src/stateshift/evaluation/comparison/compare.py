"""The public `compare`: of a sweep's folder, or of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stateshift.errors import StateshiftError
from stateshift.evaluation.comparison.experiment.experiment import (
    ExperimentComparison,
    compare_experiment,
    experiment_table,
)
from stateshift.evaluation.comparison.sweep import SweepComparison, compare_sweep, sweep_table

if TYPE_CHECKING:
    from rich.table import Table


def compare(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    models: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    seeds: str | Sequence[int] | None = None,
    folds: str | None = None,
    n_folds: int = 5,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> SweepComparison | ExperimentComparison:
    """The table of a sweep, finished or at work; or models, features and seeds beside each other on one experiment.

    On an experiment the baselines (`stateshift.effects.models.BASELINES`) always stand beside what is named.
    Effect models are fitted on the effects of its training cells, networks trained as by
    ``stateshift train``; all predict the test split, and are scored on its effects, which are estimated as training effects are
    (matched by batch) and with their split-half reliability. Every finished part is kept in the output
    folder, whatever kills the command: given again, it goes on, and more models, tables and seeds add rows. A
    candidate that fails is left out with a note and stops no other.

    Parameters
    ----------
    source
        The folder that ``stateshift train --multirun`` made (`compare_sweep`), or an experiment TOML.
    overrides
        Hydra's words for the networks, as ``training.max_steps=4000``.
    models
        Effect models (``stack``, ``bilinear`` …), configs of the network (``state_tiny``, or
        ``transition:state_tiny``), and predictions made elsewhere (``mine.h5ad``; with `folds` a folder with an h5ad
        file for each), in a sequence or parted by commas. Default: ``stack``.
    features
        Tables' files and sources' names, likewise; default: what ``[features]`` names. A perturbation without a
        vector gets the mean training effect, and a note.
    seeds
        Of networks, and of inner folds; default 0.
    folds
        In place of the test split, folds of the training cells: ``T`` holds genes out, ``C`` contexts, ``J`` both. The
        test split is not looked at then.
    n_folds
        Parts of the genes, and of the contexts.
    output
        Of a sweep a CSV file; of an experiment the folder, default ``runs/EXPERIMENT_comparison``.
    overwrite
        Replace the CSV file. In a comparison's folder nothing but the table and plot of all its parts is ever replaced.

    Raises
    ------
    StateshiftError
        The source is neither, options of one are given for the other, or an input can't be used.
    """
    source = Path(source)
    given = {
        "--models": models,
        "--features": features,
        "--seeds": seeds,
        "--folds": folds,
        "overrides": overrides or None,
    }
    if source.suffix.lower() != ".toml":
        unused = [flag for flag, value in given.items() if value is not None]
        if unused:
            raise StateshiftError(
                f"{source} is no experiment TOML, and {', '.join(unused)} go with one: leave them out."
            )
        return compare_sweep(source, output=output, overwrite=overwrite)
    return compare_experiment(
        source,
        models=_listed(models),
        features=_listed(features),
        seeds=_numbers(seeds),
        folds=folds,
        n_folds=n_folds,
        overrides=overrides,
        output=output,
    )


def comparison_table(comparison: SweepComparison | ExperimentComparison) -> Table:
    """The rows as a rich table."""
    return sweep_table(comparison) if isinstance(comparison, SweepComparison) else experiment_table(comparison)


def _listed(words: str | Sequence[str] | None) -> list[str] | None:
    if words is None:
        return None
    words = words.split(",") if isinstance(words, str) else words
    return list(dict.fromkeys(word.strip() for word in map(str, words) if word.strip()))


def _numbers(seeds: str | Sequence[int] | None) -> list[int]:
    if seeds is None:
        return [0]
    try:
        return [int(seed) for seed in (seeds.split(",") if isinstance(seeds, str) else seeds)]
    except ValueError as error:
        raise StateshiftError(f"--seeds {seeds}: whole numbers parted by commas are needed, as 0,1,2.") from error
