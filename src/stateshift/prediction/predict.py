"""Predict perturbed cells from a run and control cells."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stateshift import __version__
from stateshift.cells import Cells, EffectTable, read_cells
from stateshift.cells.loading import align_genes
from stateshift.effects import EFFECT_MODELS, EffectModel, fit_effect_models
from stateshift.effects.shift import shift_population
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import h5ad_bytes, reserve_room, written_beside
from stateshift.prediction.contract import assemble
from stateshift.prediction.requests import Request, make_requests, read_perturbations, requested_pairs, split_pairs
from stateshift.prediction.vectors import apply_policy, find_vectors
from stateshift.progress import track
from stateshift.run import RunDirectory, open_run

logger = logging.getLogger(__name__)

MODELS = ("transition", *(name for name in EFFECT_MODELS if name != "control"))


def predict(
    run: str | Path,
    *,
    cells: str | Path,
    perturb: str | Path | Sequence[str] | None = None,
    output: str | Path,
    split: str | None = None,
    contexts: Sequence[str] | None = None,
    model: str = "transition",
    features: str | Path | None = None,
    missing: str = "error",
    n_cells: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Predict perturbations of the control cells of an AnnData file.

    Parameters
    ----------
    run
        A run directory.
    cells
        An h5ad file with control cells; perturbed cells in it are not looked at. Its columns go by the
        experiment's ``[columns]`` or by convention.
    perturb
        Perturbations: a file, a comma list or a sequence; ``A+B`` is a double.
    output
        The h5ad file to write.
    split
        ``test`` or ``val`` in place of `perturb`: every pair of that split of the run.
    contexts
        Cell types of `cells` to predict in; default all with control cells.
    model
        ``transition``, or an effect model: ``mean``, ``context_mean``, ``additive``, ``ridge``, ``knn``.
    features
        A table with the vectors of genes that the run's own lacks.
    missing
        For genes without a vector: ``error``; ``drop``, which leaves them out by name; or ``fallback``, which
        predicts the mean training effect and marks the cells with route ``fallback``.
    n_cells
        Predicted cells a perturbation and context; default one a control cell.
    seed
        Draws the control cells.
    overwrite
        Whether `output` may be replaced.

    Returns
    -------
    Path
        `output`: an AnnData by the prediction contract (``docs/contracts.md``). It reads ``X``, the columns
        of ``obs``; it writes obs ``target_gene``, ``context``, ``is_control``, ``route``, ``n_sources``,
        ``interval`` and ``uns["stateshift"]``.

    Raises
    ------
    StateshiftError
        Unknown model, context or gene; genes of the run absent from the cells; no control cells; a
        prediction equal to its controls.
    """
    directory = open_run(run)
    output = Path(output)
    if output.exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name or pass --overwrite.")
    if model not in MODELS:
        hint = "it is what every prediction is compared with" if model == "control" else "see --help"
        raise StateshiftError(f"There is no model `{model}` to predict with ({hint}){suggestion(model, MODELS)}.")
    if missing not in ("error", "drop", "fallback"):
        raise StateshiftError(f"--missing {missing}{suggestion(missing, ('error', 'drop', 'fallback'))}.")
    if (perturb is None) == (split is None):
        raise StateshiftError("Name what to predict: either --perturb GENES|FILE or --split test.")

    population, scale = _cells(directory, cells)
    if split is not None:
        pairs = split_pairs(directory.splits(), split)
        pairs = [(c, p) for c, p in pairs if not contexts or c in contexts]
    else:
        pairs = requested_pairs(population, read_perturbations(perturb), contexts, str(cells))
    table, unknown = find_vectors(directory, features, pairs)
    if unknown:
        pairs = apply_policy(pairs, unknown, missing, table)
    requests = make_requests(population, pairs, n_cells, seed, str(cells))
    fallback = {p for _, p in pairs if any(g in unknown for g in genes_of(p))}

    train = EffectTable.load(directory.effects_file)
    effect_models = fit_effect_models(train, table, seed=seed)
    effects = _baseline_effects(effect_models, pairs, fallback)
    if model == "transition":
        predicted = _by_transition(directory, population, requests, table, fallback, effects["mean"])
        routes = ["fallback" if r.perturbation in fallback else "neural" for r in requests]
    else:
        shifted = (_shifted(population, r, effect) for r, effect in zip(requests, effects[model]))
        predicted = track(shifted, f"predicting with {model}", len(requests))
        routes = [
            "fallback" if r.perturbation in fallback else effect_models[model].routes([r.perturbation], [r.context])[0]
            for r in requests
        ]
    adata = assemble(population, requests, predicted, routes, train)
    adata.uns["stateshift"] = {
        "scale": scale,
        "control": population.control,
        "run": os.path.basename(os.path.abspath(directory.path)),
        "model": directory.config()["model"]["name"] if model == "transition" else model,
        "version": __version__,
        "seed": seed,
        "baselines": {
            "context": np.array([c for c, _ in pairs], dtype=object),
            "target_gene": np.array([p for _, p in pairs], dtype=object),
            "effects": effects,
        },
    }
    if _is_simulated(cells):
        adata.uns["stateshift"]["simulated"] = True
    with written_beside(output, overwrite) as part:
        reserve_room(part, h5ad_bytes(adata.X) + sum(e.nbytes for e in effects.values()))
        adata.write_h5ad(part)
    logger.info("%s: %d cells, %d populations", output, adata.n_obs, len(requests))
    return output


def _cells(run: RunDirectory, path: str | Path) -> tuple[Cells, str]:
    """The control cells' file on the run's gene axis and scale."""
    import toml

    declared = toml.load(run.experiment_file).get("columns", {})
    try:
        cells = read_cells(path, declared)
    except StateshiftError as declared_error:
        # cells of a stranger may name their columns otherwise than the training files did
        try:
            cells = read_cells(path)
        except StateshiftError:
            raise declared_error from None
    cells = align_genes(cells, run.genes(), str(path))
    trained = run.config()["scale"]
    if cells.scale != trained:
        raise StateshiftError(
            f"{path} is on scale {cells.scale} and the run was trained on {trained}: normalise the cells likewise, "
            f'or declare it by uns["stateshift"] = {{"scale": "{trained}"}} if it is so.'
        )
    return cells, trained


def _baseline_effects(
    models: dict[str, EffectModel], pairs: list[tuple[str, str]], fallback: set[str]
) -> dict[str, np.ndarray]:
    """Every effect model's effects (R, G) for the pairs; the mean effect where features are missing."""
    contexts, perturbations = [c for c, _ in pairs], [p for _, p in pairs]
    known = np.array([p not in fallback for p in perturbations])
    effects = {}
    for name, model in models.items():
        effects[name] = models["mean"].predict(perturbations, contexts)
        if known.any():
            rows = np.flatnonzero(known)
            effects[name][rows] = model.predict([perturbations[i] for i in rows], [contexts[i] for i in rows])
    return effects


def _by_transition(
    run: RunDirectory,
    cells: Cells,
    requests: list[Request],
    table: FeatureTable,
    fallback: set[str],
    mean_effects: np.ndarray,
) -> Iterator[np.ndarray]:
    """Predicted cells (S', G) of each request, in sets of the size trained on."""
    import torch

    from stateshift.transition.checkpoint import load_transition

    model = load_transition(run, table.width)
    S = model.config.set_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    for i, request in track(list(enumerate(requests)), "predicting cells"):
        if request.perturbation in fallback:
            yield _shifted(cells, request, mean_effects[i])
            continue
        rows = request.controls
        n_sets = -(-len(rows) // S)
        x = torch.zeros(n_sets * S, len(cells.genes))
        x[: len(rows)] = torch.from_numpy(cells.X[rows].toarray())
        mask = torch.arange(n_sets * S) < len(rows)
        p = torch.from_numpy(table.matrix([request.perturbation])).expand(n_sets, -1)
        batch = {"ctrl_cell_emb": x.view(n_sets, S, -1), "pert_emb": p, "mask": mask.view(n_sets, S)}
        with torch.inference_mode():
            out = model({k: v.to(device) for k, v in batch.items()})
        yield out.reshape(n_sets * S, -1)[: len(rows)].cpu().numpy()


def _shifted(cells: Cells, request: Request, effect: np.ndarray) -> np.ndarray:
    """Control cells moved by a mean effect."""
    x = cells.X[request.controls].toarray()
    return shift_population(x, effect, x.mean(axis=0))


def _is_simulated(path: str | Path) -> bool:
    from stateshift.cells.loading import read_file

    return bool(dict(read_file(path, with_matrix=False).uns.get("stateshift", {})).get("simulated", False))
