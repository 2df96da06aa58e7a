"""The effects that simulated cells were made with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stateshift.cells.simulate.population import Population
from stateshift.errors import StateshiftError
from stateshift.hdf5 import open_hdf5

if TYPE_CHECKING:
    from anndata import AnnData


def true_effects(source: AnnData | str | Path) -> AnnData:
    """Natural log fold changes of mean expression that `simulate_experiment` put into its cells.

    With q(c, g) a gene's share of a control cell's counts and q'(p, c, g) its share in a cell that
    perturbation p reached,

        effect(p, c, g) = log( escape(p) + (1 − escape(p)) · q'(p, c, g) / q(c, g) ):

    the change of a group's mean after each cell is divided by its total, batches aside. The formula of
    the shares is `Population`'s.

    Parameters
    ----------
    source
        The cells, or their .h5ad file, of which only the truth is read: ``uns["simulation"]``.

    Returns
    -------
    AnnData
        ``X`` (C·P, G) float32, rows by context and perturbation: ``obs["context"]``,
        ``obs["perturbation"]``; ``var_names`` the genes; ``uns["stateshift"]``: ``simulated`` (true),
        ``scale`` (``log_fold_change``).

    Raises
    ------
    StateshiftError
        There is no such truth in it.
    """
    from anndata import AnnData

    population = _population(source)
    C, P = len(population.contexts), len(population.perturbations)
    effects = np.empty((C * P, len(population.genes)), dtype=np.float32)
    for c in range(C):
        x = population.log_expression(
            np.full(P, c), np.arange(P), reached=np.ones(P, dtype=bool), residual=population.residual
        )
        shares = np.exp(x)
        shares /= shares.sum(axis=1, keepdims=True)
        ratio = shares / np.exp(population.baseline[c])
        escape = population.escape[:, None]
        effects[c * P : (c + 1) * P] = np.log(escape + (1 - escape) * ratio)
    obs = pd.DataFrame(
        {"context": np.repeat(population.contexts, P), "perturbation": np.tile(population.perturbations, C)},
        index=[f"{c}/{p}" for c in population.contexts for p in population.perturbations],
    )
    about = {"simulated": True, "scale": "log_fold_change"}
    return AnnData(effects, obs=obs, var=pd.DataFrame(index=population.genes), uns={"stateshift": about})


def _population(source: AnnData | str | Path) -> Population:
    where = str(source) if isinstance(source, (str, Path)) else "these cells"
    found = _simulation(Path(source)) if isinstance(source, (str, Path)) else source.uns.get("simulation")
    if found is None:
        raise StateshiftError(f'{where}: uns["simulation"] is absent: `simulate_experiment` did not make this.')
    if "baseline" not in found:
        raise StateshiftError(
            f"{where}: `simulate_experiment` did not make this; a screen of `simulate_screen` keeps its exact effects "
            'in uns["simulation"]["effects"].'
        )
    return Population.from_uns(found)


def _simulation(path: Path) -> dict[str, Any] | None:
    from anndata.io import read_elem

    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    try:
        with open_hdf5(path) as handle:
            return read_elem(handle["uns/simulation"]) if "uns/simulation" in handle else None
    except OSError as error:
        raise StateshiftError(f"{path} can't be read as an h5ad file: {error}") from error
