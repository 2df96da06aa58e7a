"""Predict perturbed cells from a run and control cells."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift import __version__
from stateshift.cells import Cells, EffectTable
from stateshift.effects import BASELINES, EFFECT_MODELS, EffectModel, fit_effect_models
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import h5ad_bytes, reserve_room, written_beside
from stateshift.prediction.anchored import find_backbone
from stateshift.prediction.calibrator import Calibrator, stored_validation
from stateshift.prediction.cells import read_population
from stateshift.prediction.contract import add_intervals, assemble
from stateshift.prediction.ensemble import Averaged, refuse_other_runs
from stateshift.prediction.intervals import find_intervals, widened_by_few_controls
from stateshift.prediction.network import Predicted, by_transition, modelled_by, refuse_unmodelled, shifted
from stateshift.prediction.requests import (
    as_trained,
    make_requests,
    read_perturbations,
    refuse_misspelt,
    requested_pairs,
    split_pairs,
)
from stateshift.prediction.support import find_support
from stateshift.prediction.vectors import apply_policy, find_embedder, find_vectors, known_effects, known_routes
from stateshift.progress import track
from stateshift.run import RunDirectory

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

BLIND = ("control", "mean", "context_mean")
"""Effect models that look at no perturbation, and so predict those without a vector like any other."""
MODELS = ("transition", *(name for name in EFFECT_MODELS if name != "control"))


def predict(
    run: str | Path | Sequence[str | Path],
    *,
    cells: str | Path,
    perturb: str | Path | Sequence[str] | None = None,
    output: str | Path,
    split: str | None = None,
    contexts: Sequence[str] | None = None,
    model: str = "transition",
    features: str | Path | None = None,
    fasta: str | Path | None = None,
    checkpoint: str | None = None,
    missing: str = "error",
    n_cells: int | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Predict perturbations of the control cells of an AnnData file.

    All genes of the training files are predicted. ``var["modelled_by"]`` says how each came about: ``network``;
    ``decoder``, the network's gene decoder; or ``effect``: the control cells moved by ridge effects of the training
    cells, as where the network was trained on ``obsm["X_hvg"]`` alone, or by the effect model that was named.

    Parameters
    ----------
    run
        A run directory; or one of arc-state's, or its checkpoint, which hold no effects of their training cells
        and so give no baselines. Several runs of one training with other seeds are an ensemble: their cells are averaged.
    cells
        An h5ad file with control cells; perturbed cells in it are not looked at. Its columns go by the
        experiment's ``[columns]`` or by convention.
    perturb
        Perturbations: a file, a comma list or a sequence; ``A+B`` is a double, in any order of its genes.
    output
        The h5ad file to write.
    split
        ``test`` or ``val`` in place of `perturb`: every pair of that split of the run.
    contexts
        Cell types of `cells` to predict in; default all with control cells.
    model
        ``transition``, or an effect model (`EFFECT_MODELS`): ``stack``, ``mean``, ``ridge``, ….
    features
        A table with the vectors of genes that the run's own lacks.
    fasta, checkpoint
        Of a run with ``model.encoder=esm``: the proteins of genes that no table holds, and the ESM2 model that embeds
        them, where the run's own FASTA and checkpoint are not there any more.
    missing
        For genes without a vector: ``error``; ``drop``, which leaves them out by name; or ``fallback``, which
        predicts the mean training effect and marks the cells with route ``fallback``.
    n_cells
        Predicted cells a perturbation and context; default one a control cell.
    columns
        The cells' ``perturbation``, ``cell_type`` and ``control`` where they are named otherwise than in training
        and by no convention.
    seed
        Draws the control cells, and deals them to sets.
    overwrite
        Whether `output` may be replaced.

    Returns
    -------
    Path
        `output`: an AnnData by the prediction contract (``docs/contracts.md``). It reads ``X``, the columns
        of ``obs``, and ``obsm`` where the run was trained on an array there; it writes obs ``target_gene``,
        ``context``, ``is_control``, ``route``, ``regime``, ``n_sources``, ``nearest``, ``nearest_gene``, ``interval``,
        var ``modelled_by`` and ``uns["stateshift"]``.

    Raises
    ------
    StateshiftError
        Unknown model, context or gene; genes of the run absent from the cells; no control cells; a
        prediction equal to its controls; runs that are no ensemble.
    """
    output = Path(output)
    if output.suffix != ".h5ad":
        raise StateshiftError(f"{output}: a prediction is written as .h5ad, name {output.with_suffix('.h5ad').name}.")
    if output.resolve() == Path(cells).resolve():
        raise StateshiftError(f"{output} is both the --cells and the --output: choose another output.")
    if seed < 0:
        raise StateshiftError(f"--seed {seed} has to be at least 0.")
    if output.exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name or pass --overwrite.")
    if model not in MODELS:
        hint = "it is what every prediction is compared with" if model == "control" else "see --help"
        raise StateshiftError(f"There is no model `{model}` to predict with ({hint}){suggestion(model, MODELS)}.")
    if missing not in ("error", "drop", "fallback"):
        raise StateshiftError(f"--missing {missing}{suggestion(missing, ('error', 'drop', 'fallback'))}.")
    if (perturb is None) == (split is None):
        raise StateshiftError("Name what to predict: either --perturb GENES|FILE or --split test.")

    from stateshift.transition.arc_run import opened_run

    runs = [run] if isinstance(run, str | Path) else list(run)
    with contextlib.ExitStack() as opened:
        members = [opened.enter_context(opened_run(one)) for one in runs]
        adata = _predict(
            members, cells, perturb, split, contexts, model, features, fasta, checkpoint, missing, n_cells, columns, seed
        )  # fmt: skip
    about = adata.uns["stateshift"]
    names = [os.path.basename(os.path.abspath(one)) for one in runs]
    about["run"] = names[0]
    if len(runs) > 1:
        about["ensemble"]["runs"] = np.array(names, dtype=object)
    with written_beside(output, overwrite) as part:
        dense = [*about.get("baselines", {}).get("effects", {}).values(), *about.get("intervals", {}).values()]
        reserve_room(part, h5ad_bytes(adata.X) + sum(a.nbytes for a in dense if isinstance(a, np.ndarray)))
        adata.write_h5ad(part)
    logger.info("%s: %d cells, %d predicted", output, adata.n_obs, (~adata.obs["is_control"]).sum())
    return output


def _predict(
    members: list[RunDirectory],
    cells: str | Path,
    perturb: str | Path | Sequence[str] | None,
    split: str | None,
    contexts: Sequence[str] | None,
    model: str,
    features: str | Path | None,
    fasta: str | Path | None,
    checkpoint: str | None,
    missing: str,
    n_cells: int | None,
    columns: Mapping[str, str] | None,
    seed: int,
) -> AnnData:
    """The prediction, by `predict`'s parameters."""
    from stateshift.transition.checkpoint import config_of

    directory = members[0]
    if len(members) > 1:
        if model != "transition":
            raise StateshiftError(
                f"--model {model} is fitted on the effects of one run: name one run, not {len(members)}."
            )
        refuse_other_runs(members)
    if directory.imported_from and (model != "transition" or missing == "fallback"):
        raise StateshiftError(
            f"The run comes from {directory.imported_from} and holds no effects of its training cells, which "
            f"{'--missing fallback' if model == 'transition' else f'--model {model}'} needs: predict with transition, "
            "and --missing error or drop."
        )
    population = read_population(directory, cells, columns)
    output = population.every_gene or population
    if split is not None:
        pairs = split_pairs(directory.splits(), split, contexts)
    else:
        asked = read_perturbations(perturb)
        refuse_misspelt(perturb, asked, _known_genes(directory, output))
        trained = [p for of in directory.splits().values() for by_context in of.values() for p in by_context]
        pairs = requested_pairs(population, as_trained(asked, trained), contexts, str(cells))
    embedder = find_embedder(directory, fasta, checkpoint)
    table, unknown = find_vectors(directory, features, pairs, embedder)
    if unknown:
        pairs = apply_policy(pairs, unknown, missing, table)
    requests = make_requests(population, pairs, n_cells, seed, str(cells))
    fallback = {p for _, p in pairs if any(g in unknown for g in genes_of(p))}

    train, effect_models, effects = None, {}, {}
    by = np.full(len(output.genes), "effect", dtype=object)
    if model == "transition":
        by = modelled_by(config_of(directory, table.width), population.genes, directory.every_gene())
    if directory.imported_from:
        logger.warning("a run of %s holds no effects of its training cells: no baselines", directory.imported_from)
    else:
        train = EffectTable.load(directory.effects_file)
        refuse_unmodelled(output.genes, by, train, directory)
        train = _told_of_contexts(train, output, pairs)
        names = [*BASELINES, *({model} - {"transition", *BASELINES})]
        effect_models = fit_effect_models(train, table, names, seed=directory.config()["seed"])
        effects = _baseline_effects(effect_models, pairs, fallback, output)
    support = find_support(pairs, train, table, fallback)
    if model == "transition":
        backbones = [
            find_backbone(m, table, pairs, fallback, effects["mean"], _lowest(pairs, output))
            if config_of(m, table.width).start == "backbone"
            else None
            for m in members
        ]
        streams = [
            by_transition(m, population, requests, table, fallback, effects, seed, embedder, backbone)
            for m, backbone in zip(members, backbones)
        ]
        predicted = streams[0] if len(members) == 1 else Averaged(streams)
        routes = ["fallback" if r.perturbation in fallback else "neural" for r in requests]
        if all(backbones):
            effect_models["stack"] = backbones[0].stack
            routes = [
                "fallback" if r.perturbation in fallback else
                "neural" if any(b.kept[i] for b in backbones) else backbones[0].routes[i]
                for i, r in enumerate(requests)
            ]  # fmt: skip
    else:
        moved = (Predicted(shifted(population, r, effect)) for r, effect in zip(requests, effects[model]))
        predicted = track(moved, f"predicting with {model}", len(requests))
        routes = known_routes(effect_models[model], pairs, fallback)
    adata, made = assemble(population, requests, predicted, routes, support)
    adata.var["modelled_by"] = pd.Categorical(by)
    about = {
        "scale": output.scale,
        "control": population.control,
        "model": directory.config()["model"]["name"] if model == "transition" else model,
        "version": __version__,
        "seed": seed,
    }
    if effects:
        about["baselines"] = {
            "context": np.array([c for c, _ in pairs], dtype=object),
            "target_gene": np.array([p for _, p in pairs], dtype=object),
            "genes": np.array(output.genes, dtype=object),
            "effects": {name: effects[name] for name in BASELINES},
        }
    if population.simulated:
        about["simulated"] = True
    adata.uns["stateshift"] = about
    if len(members) > 1:
        about["ensemble"] = {"spread": predicted.spread}
    if train is not None:
        backbone = model if model != "transition" else "stack" if "stack" in effect_models else "ridge"
        validation, apart = None, None
        if model == "transition":
            validation, apart = stored_validation(members, output.genes, backbones)
        calibrator = Calibrator(effect_models, train, table, seed, validation, apart)
        spread = predicted.spread.mean(axis=1) if len(members) > 1 else None
        intervals = find_intervals(calibrator, backbone, pairs, routes, support, spread, fallback)
        widened_by_few_controls(intervals, output, pairs, train)
        add_intervals(adata, pairs, support, made, intervals, output.genes)
    return adata


def _known_genes(run: RunDirectory, cells: Cells) -> set[str]:
    """Genes that the run has vectors of or the cells measure."""
    return {*FeatureTable.load(run.features_file).genes, *cells.genes}


def _baseline_effects(
    models: dict[str, EffectModel], pairs: list[tuple[str, str]], fallback: set[str], cells: Cells
) -> dict[str, np.ndarray]:
    """Every effect model's effects (R, G) for the pairs, as a population can show them: never below no expression.

    Where a gene has no vector, models that look at the perturbation give the mean effect.
    """
    mean = models["mean"].predict([p for _, p in pairs], [c for c, _ in pairs])
    lowest = _lowest(pairs, cells)
    of_none: set[str] = set()
    return {
        name: np.maximum(known_effects(model, pairs, of_none if name in BLIND else fallback, mean), lowest)
        for name, model in models.items()
    }


def _told_of_contexts(train: EffectTable, cells: Cells, pairs: list[tuple[str, str]]) -> EffectTable:
    """The training effects with the control means of the contexts that only the cells bring.

    So effect models know, as of a context of the training files that no row is of, which contexts it is like, and
    that whole contexts are what they have to hold out.
    """
    new = dict.fromkeys(c for c, _ in pairs if c not in train.control_means)
    return replace(train, control_means=train.control_means | {c: _control_mean(cells, c) for c in new})


def _lowest(pairs: list[tuple[str, str]], cells: Cells) -> np.ndarray | float:
    """The least that the effects (R, G) of pairs can be: no expression is left; no bound of an embedding."""
    return -np.inf if cells.scale == "embedding" else -np.stack([_control_mean(cells, c) for c, _ in pairs])


def _control_mean(cells: Cells, context: str) -> np.ndarray:
    """Mean of a context's control cells, (G,)."""
    rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
    return cells.X.mean(rows).astype(np.float32)
