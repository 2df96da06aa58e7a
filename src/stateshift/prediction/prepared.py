"""A prediction made ready: what is asked and of which cells, and the cells predicted, request by request, as they are drawn."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stateshift.cells import Cells, EffectTable
from stateshift.cells.loading import IN_MEMORY, Storage
from stateshift.effects import BASELINES, EffectModel, effect_model_names, fit_effect_models
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.prediction.anchored import Backbone, find_backbone
from stateshift.prediction.asked.cells import read_population
from stateshift.prediction.asked.requests import (
    Request,
    as_trained,
    make_requests,
    read_perturbations,
    refuse_misspelt,
    requested_pairs,
    split_pairs,
)
from stateshift.prediction.asked.support import Support, find_support
from stateshift.prediction.asked.vectors import apply_policy, find_embedder, find_vectors
from stateshift.prediction.effect_models import baseline_effects, known_routes, lowest_effects, told_of_contexts
from stateshift.prediction.ensemble import Averaged, refuse_other_runs
from stateshift.prediction.network import Predicted, by_transition, modelled_by, refuse_unmodelled, shifted
from stateshift.progress import track
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)


@dataclass
class Asked:
    """What a prediction is asked for, by the parameters of `stateshift.prediction.predict`.

    Parameters
    ----------
    storage
        Where the cells' matrix is kept.
    baselines
        Whether every baseline is to be fitted, or only what predicts.
    """

    cells: str | Path
    perturb: str | Path | Sequence[str] | None = None
    split: str | None = None
    contexts: Sequence[str] | None = None
    model: str = "transition"
    features: str | Path | None = None
    fasta: str | Path | None = None
    checkpoint: str | None = None
    missing: str = "error"
    n_cells: int | None = None
    columns: Mapping[str, str] | None = None
    seed: int = 0
    storage: Storage = IN_MEMORY
    baselines: bool = True


@dataclass
class Prepared:
    """R requests and what answers them.

    Parameters
    ----------
    cells
        The population; ``every_gene`` where more is predicted than the network reads.
    pairs, requests
        (context, perturbation), and the same with their control cells.
    predicted
        The cells of each request, made as they are asked for.
    routes
        Of each request.
    support
        What stands behind each.
    modelled_by
        What gives each gene.
    table
        Vectors of all that is asked and trained.
    train
        The training effects; None where a run holds none.
    effect_models, effects
        Name → the fitted model, and its effects (R, genes of the prediction).
    backbones
        Of each run, where its network starts from one.
    fallback
        Perturbations without a vector.
    """

    cells: Cells
    pairs: list[tuple[str, str]]
    requests: list[Request]
    predicted: Iterable[Predicted]
    routes: list[str]
    support: Support
    modelled_by: np.ndarray
    table: FeatureTable
    train: EffectTable | None
    effect_models: dict[str, EffectModel] = field(default_factory=dict)
    effects: dict[str, np.ndarray] = field(default_factory=dict)
    backbones: list[Backbone | None] = field(default_factory=list)
    fallback: set[str] = field(default_factory=set)

    @property
    def output(self) -> Cells:
        """The population on the genes that are predicted."""
        return self.cells.every_gene or self.cells


def prepare(members: list[RunDirectory], asked: Asked) -> Prepared:
    """Read the cells, fit the effect models and set the prediction going.

    Parameters
    ----------
    members
        A run, or several that are an ensemble.
    """
    from stateshift.transition.checkpoint import config_of

    directory, model = members[0], asked.model
    _refuse_impossible(members, asked)
    population = read_population(directory, asked.cells, asked.columns, asked.storage)
    output = population.every_gene or population
    pairs = _pairs(directory, population, asked)
    embedder = find_embedder(directory, asked.fasta, asked.checkpoint)
    table, unknown = find_vectors(directory, asked.features, pairs, embedder)
    if unknown:
        pairs = apply_policy(pairs, unknown, asked.missing, table)
    requests = make_requests(population, pairs, asked.n_cells, asked.seed, str(asked.cells))
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
        train = told_of_contexts(train, output, pairs)
        beside = BASELINES if asked.baselines else ("mean", "ridge")
        names = [*beside, *({model} - {"transition", *beside})]
        effect_models = fit_effect_models(train, table, names, seed=directory.config()["seed"])
        effects = baseline_effects(effect_models, pairs, fallback, output)
    support = find_support(pairs, train, table, fallback)
    ready = Prepared(
        population, pairs, requests, [], [], support, by, table, train, effect_models, effects, fallback=fallback
    )
    if model != "transition":
        moved = (Predicted(shifted(population, r, effect)) for r, effect in zip(requests, effects[model]))
        ready.predicted = track(moved, f"predicting with {model}", len(requests))
        ready.routes = known_routes(effect_models[model], pairs, fallback)
        return ready
    ready.backbones = [
        find_backbone(m, table, pairs, fallback, effects["mean"], lowest_effects(pairs, output))
        if config_of(m, table.width).start == "backbone"
        else None
        for m in members
    ]
    streams = [
        by_transition(m, population, requests, table, fallback, effects, asked.seed, embedder, backbone)
        for m, backbone in zip(members, ready.backbones)
    ]
    ready.predicted = streams[0] if len(members) == 1 else Averaged(streams)
    ready.routes = ["fallback" if r.perturbation in fallback else "neural" for r in requests]
    if all(ready.backbones):
        effect_models["stack"] = ready.backbones[0].stack
        ready.routes = [
            "fallback" if r.perturbation in fallback else
            "neural" if any(b.kept[i] for b in ready.backbones) else ready.backbones[0].routes[i]
            for i, r in enumerate(requests)
        ]  # fmt: skip
    return ready


def effects_beside(ready: Prepared, seed: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What effect models by name say of a prediction's pairs: (R, genes of the prediction), as cells can show them.

    Parameters
    ----------
    seed
        Of the run, which draws their inner folds.
    """
    backbone = ready.backbones[0] if ready.backbones else None
    if backbone is not None and "stack" in names:
        ready.effects["stack"] = backbone.effects
    missing = [name for name in names if name not in ready.effects]
    if missing and ready.train is None:
        raise StateshiftError(
            "The run holds no effects of its training cells: no effect model can be fitted beside it."
        )
    if missing:
        models = fit_effect_models(ready.train, ready.table, ["mean", *missing], seed)
        ready.effects |= baseline_effects(models, ready.pairs, ready.fallback, ready.output)
    return {name: ready.effects[name] for name in names}


def refuse_contradictions(asked: Asked) -> None:
    """A StateshiftError where what is asked for can't be, whatever the run."""
    model, missing = asked.model, asked.missing
    if asked.seed < 0:
        raise StateshiftError(f"--seed {asked.seed} has to be at least 0.")
    models = ["transition", *(name for name in effect_model_names() if name != "control")]
    if model not in models:
        hint = "it is what every prediction is compared with" if model == "control" else "see --help"
        raise StateshiftError(f"There is no model `{model}` to predict with ({hint}){suggestion(model, models)}.")
    if missing not in ("error", "drop", "fallback"):
        raise StateshiftError(f"--missing {missing}{suggestion(missing, ('error', 'drop', 'fallback'))}.")
    if (asked.perturb is None) == (asked.split is None):
        raise StateshiftError("Name what to predict: either --perturb GENES|FILE or --split test.")


def _refuse_impossible(members: list[RunDirectory], asked: Asked) -> None:
    """A StateshiftError where the runs can't do what is asked."""
    directory, model = members[0], asked.model
    if len(members) > 1:
        if model != "transition":
            raise StateshiftError(
                f"--model {model} is fitted on the effects of one run: name one run, not {len(members)}."
            )
        refuse_other_runs(members)
    if directory.imported_from and (model != "transition" or asked.missing == "fallback"):
        raise StateshiftError(
            f"The run comes from {directory.imported_from} and holds no effects of its training cells, which "
            f"{'--missing fallback' if model == 'transition' else f'--model {model}'} needs: predict with transition, "
            "and --missing error or drop."
        )


def _pairs(directory: RunDirectory, population: Cells, asked: Asked) -> list[tuple[str, str]]:
    """(context, perturbation) that are asked for, by the run's names."""
    output = population.every_gene or population
    if asked.split is not None:
        return split_pairs(directory.splits(), asked.split, asked.contexts)
    named = read_perturbations(asked.perturb)
    refuse_misspelt(asked.perturb, named, _known_genes(directory, output))
    trained = [p for of in directory.splits().values() for by_context in of.values() for p in by_context]
    return requested_pairs(population, as_trained(named, trained), asked.contexts, str(asked.cells))


def _known_genes(run: RunDirectory, cells: Cells) -> set[str]:
    """Genes that the run has vectors of or the cells measure."""
    return {*FeatureTable.load(run.features_file).genes, *cells.genes}
