"""The experiment TOML that comes with simulated cells."""

from __future__ import annotations

import numpy as np

from stateshift.cells.simulate.population import Population

DATASET, HELD_OUT_SHARE, FEWEST_TARGETS = "simulated", 0.1, 3
DOUBLES_FOR = {"val": 0.1, "test": 0.3}
"""Shares of the doubles whose targets are trained on."""


def starter_toml(population: Population, cells: str, table: str, seed: int) -> str:
    """An experiment that holds out the last of several contexts, and targets of the others.

    A tenth of the targets, at least one, validate and as many test; with fewer than three targets none is
    held out. A double is held out with its targets; of the others three tenths test and a tenth validates.

    Parameters
    ----------
    population
        Its contexts and targets are read.
    cells, table
        Names of the files beside it.
    seed
        Of the choice of targets.
    """
    import toml

    contexts, targets = population.contexts.tolist(), population.targets
    *treated, last = contexts
    few = max(1, round(HELD_OUT_SHARE * len(targets))) if len(targets) >= FEWEST_TARGETS else 0
    rng = np.random.default_rng([seed, 3])
    drawn = rng.permutation(targets)
    split = {"val": drawn[:few].tolist(), "test": drawn[few : 2 * few].tolist()}
    spare = []
    for double in rng.permutation(population.perturbations[len(targets) :]).tolist():
        held = [name for name in ("test", "val") if not set(split[name]).isdisjoint(double.split("+"))]
        (split[held[0]] if held else spare).append(double)
    for name, share in DOUBLES_FOR.items():
        some = round(share * len(population.pairs))
        split[name], spare = sorted(split[name] + spare[:some]), spare[some:]
    content = {
        "datasets": {DATASET: cells},
        "training": {DATASET: "train"},
        "zeroshot": {f"{DATASET}.{last}": "test"} if treated else {},
        "fewshot": {f"{DATASET}.{name}": split for name in treated or contexts} if few else {},
        "features": {"table": table},
        "run": {"model": "state_tiny"},
    }
    return "# Written by `stateshift data simulate`: cells and effects are simulated.\n" + toml.dumps(content)
