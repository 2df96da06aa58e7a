"""Predict perturbed cells from a run and control cells."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, vstack

from stateshift import __version__
from stateshift.cells import Cells, EffectTable, read_cells
from stateshift.cells.loading import align_genes
from stateshift.effects import EFFECT_MODELS, EffectModel, fit_effect_models
from stateshift.effects.shift import shift_population
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import h5ad_bytes, reserve_room, written_beside
from stateshift.prediction.requests import Request, make_requests, read_perturbations, requested_pairs, split_pairs
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
    table, unknown = _features(directory, features, pairs)
    if unknown:
        pairs = _without(pairs, unknown, missing, table)
    requests = make_requests(population, pairs, n_cells, seed, str(cells))
    fallback = {p for _, p in pairs if any(g in unknown for g in genes_of(p))}

    train = EffectTable.load(directory.effects_file)
    effect_models = fit_effect_models(train, FeatureTable.load(directory.features_file), seed=seed)
    effects = _baseline_effects(effect_models, pairs, fallback, table)
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
    adata = _assemble(population, requests, predicted, routes, train)
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


def _features(
    run: RunDirectory, extra: str | Path | None, pairs: Sequence[tuple[str, str]]
) -> tuple[FeatureTable, set[str]]:
    """Vectors for the pairs, from the run's table and the extra one, and the genes that have none."""
    table = FeatureTable.load(run.features_file)
    absent = table.missing(p for _, p in pairs)
    source = extra or run.config().get("feature_table")
    if absent and source is not None:
        path = Path(source) if extra else run.path / source
        if path.is_file():
            more = FeatureTable.load(path)
            if more.width != table.width:
                raise StateshiftError(f"{path} has {more.width} features a gene, the run {table.width}.")
            _require_same_vectors(table, more, path)
            found = [g for g in absent if g in more]
            logger.info("vectors of %d genes taken from %s", len(found), path)
            table = FeatureTable(
                [*table.genes, *found], np.concatenate([table.vectors, more.subset(found).vectors]), table.provenance
            )
            absent = [g for g in absent if g not in more]
        elif extra:
            raise StateshiftError(f"{extra}: there is no such feature table.")
    return table, set(absent)


def _require_same_vectors(table: FeatureTable, more: FeatureTable, path: Path) -> None:
    """A table of another model would be read as nonsense, so the genes in common must agree."""
    common = [g for g in table.genes if g in more]
    if common and not np.allclose(table.subset(common).vectors, more.subset(common).vectors, rtol=1e-3, atol=1e-4):
        raise StateshiftError(f"{path} holds other vectors than the run for the same genes: it is from another model.")


def _without(
    pairs: list[tuple[str, str]], unknown: set[str], missing: str, table: FeatureTable
) -> list[tuple[str, str]]:
    """Apply the policy for genes without a vector."""
    names = sorted(unknown)
    if missing == "error":
        hint = suggestion(names[0], table.genes) if len(names) == 1 else ""
        raise StateshiftError(
            f"No feature vector for {some(names, 20)}{hint}. Pass --features TABLE.pt that holds "
            f"{'it' if len(names) == 1 else 'them'} (create_esm_pert_features --gene-list), or --missing drop|fallback."
        )
    if missing == "fallback":
        logger.warning("no feature vector for %s: the mean training effect stands in", some(names, 20))
        return pairs
    logger.warning("no feature vector for %s: left out", some(names, 20))
    kept = [(c, p) for c, p in pairs if not any(g in unknown for g in genes_of(p))]
    if not kept:
        raise StateshiftError(f"No perturbation is left: none of {some(names, 20)} has a feature vector.")
    return kept


def _baseline_effects(
    models: dict[str, EffectModel], pairs: list[tuple[str, str]], fallback: set[str], table: FeatureTable
) -> dict[str, np.ndarray]:
    """Every effect model's effects (R, G) for the pairs; the mean effect where features are missing."""
    contexts, perturbations = [c for c, _ in pairs], [p for _, p in pairs]
    known = np.array([p not in fallback for p in perturbations])
    effects = {}
    for name, model in models.items():
        if name in ("ridge", "knn"):
            model.space.table = table
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


def _assemble(
    cells: Cells,
    requests: list[Request],
    predicted: Any,
    routes: list[str],
    train: EffectTable,
) -> Any:
    """Predicted cells and the untouched controls as one AnnData."""
    import anndata as ad
    import pandas as pd

    matrices, frames = [], []
    for request, cells_SG, route in zip(requests, predicted, routes):
        control = cells.X[request.controls]
        matrix = csr_matrix(cells_SG.astype(np.float32))
        if (matrix != control).nnz == 0:
            raise StateshiftError(
                f"The prediction for {request.perturbation} in {request.context} equals its control cells: nothing was "
                "predicted (no effect in training, or an untrained model), so it is refused."
            )
        sources = {c for c, p in zip(train.contexts, train.perturbations) if p == request.perturbation}
        matrices.append(matrix)
        frames.append(_obs(request.perturbation, request.context, len(control.indptr) - 1, False, route, len(sources)))
    shown = {r.context for r in requests}
    for context in sorted(shown):
        rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
        matrices.append(cells.X[rows])
        frames.append(_obs(cells.control, context, len(rows), True, "control", 0))
    obs = pd.concat(frames, ignore_index=True)
    obs.index = obs.index.astype(str)
    for column in ("target_gene", "context", "route"):
        obs[column] = obs[column].astype("category")
    return ad.AnnData(vstack(matrices, format="csr"), obs=obs, var=pd.DataFrame(index=pd.Index(cells.genes)))


def _obs(target: str, context: str, n: int, is_control: bool, route: str, n_sources: int) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "target_gene": [target] * n,
            "context": context,
            "is_control": is_control,
            "route": route,
            "n_sources": n_sources,
            "interval": np.float32("nan"),
        }
    )


def _is_simulated(path: str | Path) -> bool:
    from stateshift.cells.loading import read_file

    return bool(dict(read_file(path, with_matrix=False).uns.get("stateshift", {})).get("simulated", False))
