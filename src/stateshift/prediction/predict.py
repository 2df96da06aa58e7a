"""Predict perturbed cells from a run and control cells."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift import __version__
from stateshift.cells import Cells, EffectTable, Expression, read_cells
from stateshift.effects import EFFECT_MODELS, EffectModel, fit_effect_models
from stateshift.effects.shift import shift_population
from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import h5ad_bytes, reserve_room, written_beside
from stateshift.prediction.contract import assemble
from stateshift.prediction.requests import Request, make_requests, read_perturbations, requested_pairs, split_pairs
from stateshift.prediction.vectors import apply_policy, find_vectors
from stateshift.progress import track
from stateshift.run import RunDirectory

if TYPE_CHECKING:
    from anndata import AnnData

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
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Predict perturbations of the control cells of an AnnData file.

    Parameters
    ----------
    run
        A run directory; or one of arc-state's, or its checkpoint, which hold no effects of their training cells
        and so give no baselines.
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
        of ``obs``; it writes obs ``target_gene``, ``context``, ``is_control``, ``route``, ``n_sources``,
        ``interval`` and ``uns["stateshift"]``.

    Raises
    ------
    StateshiftError
        Unknown model, context or gene; genes of the run absent from the cells; no control cells; a
        prediction equal to its controls.
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

    with opened_run(run) as directory:
        adata = _predict(
            directory, cells, perturb, split, contexts, model, features, missing, n_cells, columns, seed
        )  # fmt: skip
    about = adata.uns["stateshift"]
    about["run"] = os.path.basename(os.path.abspath(run))
    with written_beside(output, overwrite) as part:
        effects = about.get("baselines", {}).get("effects", {})
        reserve_room(part, h5ad_bytes(adata.X) + sum(e.nbytes for e in effects.values()))
        adata.write_h5ad(part)
    logger.info("%s: %d cells, %d predicted", output, adata.n_obs, (~adata.obs["is_control"]).sum())
    return output


def _predict(
    directory: RunDirectory,
    cells: str | Path,
    perturb: str | Path | Sequence[str] | None,
    split: str | None,
    contexts: Sequence[str] | None,
    model: str,
    features: str | Path | None,
    missing: str,
    n_cells: int | None,
    columns: Mapping[str, str] | None,
    seed: int,
) -> AnnData:
    """The prediction, by `predict`'s parameters."""
    if directory.imported_from and (model != "transition" or missing == "fallback"):
        raise StateshiftError(
            f"The run comes from {directory.imported_from} and holds no effects of its training cells, which "
            f"{'--missing fallback' if model == 'transition' else f'--model {model}'} needs: predict with transition, "
            "and --missing error or drop."
        )
    population, scale = _cells(directory, cells, columns)
    if split is not None:
        pairs = split_pairs(directory.splits(), split, contexts)
    else:
        pairs = requested_pairs(population, read_perturbations(perturb), contexts, str(cells))
    table, unknown = find_vectors(directory, features, pairs)
    if unknown:
        pairs = apply_policy(pairs, unknown, missing, table)
    requests = make_requests(population, pairs, n_cells, seed, str(cells))
    fallback = {p for _, p in pairs if any(g in unknown for g in genes_of(p))}

    train, effect_models, effects = None, {}, {}
    if directory.imported_from:
        logger.warning("a run of %s holds no effects of its training cells: no baselines", directory.imported_from)
    else:
        train = EffectTable.load(directory.effects_file)
        effect_models = fit_effect_models(train, table, seed=seed)
        effects = _baseline_effects(effect_models, pairs, fallback, population)
    if model == "transition":
        predicted = _by_transition(directory, population, requests, table, fallback, effects.get("mean"), seed)
        routes = ["fallback" if r.perturbation in fallback else "neural" for r in requests]
    else:
        shifted = (_shifted(population, r, effect) for r, effect in zip(requests, effects[model]))
        predicted = track(shifted, f"predicting with {model}", len(requests))
        routes = [
            "fallback" if r.perturbation in fallback else effect_models[model].routes([r.perturbation], [r.context])[0]
            for r in requests
        ]
    adata = assemble(population, requests, predicted, routes, train)
    about = {
        "scale": scale,
        "control": population.control,
        "model": directory.config()["model"]["name"] if model == "transition" else model,
        "version": __version__,
        "seed": seed,
    }
    if effects:
        about["baselines"] = {
            "context": np.array([c for c, _ in pairs], dtype=object),
            "target_gene": np.array([p for _, p in pairs], dtype=object),
            "genes": np.array(population.genes, dtype=object),
            "effects": effects,
        }
    if population.simulated:
        about["simulated"] = True
    adata.uns["stateshift"] = about
    return adata


def _cells(run: RunDirectory, path: str | Path, columns: Mapping[str, str] | None) -> tuple[Cells, str]:
    """The control cells' file on the run's gene axis and scale."""
    import toml

    declared = toml.load(run.experiment_file).get("columns", {})
    given = {k: v for k, v in (columns or {}).items() if v is not None}
    try:
        cells = _on_genes(path, {**declared, **given}, run)
    except InputProblems as error:
        # cells from elsewhere may name their columns otherwise than the training files did
        theirs = {role: declared.get(role) for role in ("scale", "embedding")}
        try:
            cells = _on_genes(path, {**theirs, **given}, run)
        except StateshiftError:
            flags = "--pert-col, --cell-type-key and --control-pert name the columns of these cells."
            raise InputProblems(error.where, [*error.problems, flags]) from None
        logger.warning("%s: the experiment's columns are not there; those of conventional names are used", path)
    trained = run.config()["scale"]
    if run.imported_from and "embedding" not in (cells.scale, trained):
        return cells, cells.scale  # arc-state does not say which of the log1p scales it was trained on
    if cells.scale != trained:
        raise StateshiftError(
            f"{path} is on scale {cells.scale} and the run was trained on {trained}: normalise the cells likewise, "
            f'or declare it by uns["stateshift"] = {{"scale": "{trained}"}} if it is so.'
        )
    return cells, trained


def _on_genes(path: str | Path, columns: Mapping[str, str | None], run: RunDirectory) -> Cells:
    """A file's cells on the run's genes.

    A run on an array of ``obsm`` reads the same genes from ``X`` where a file's own array has others or is not there:
    normalised over all genes first, as that array was.
    """
    genes = run.genes()
    if columns.get("embedding") is None:
        return read_cells(path, columns, genes=genes)
    try:
        return read_cells(path, columns, genes=genes)
    except InputProblems:
        raise
    except StateshiftError:
        if run.config()["scale"] == "embedding":
            raise
        cells = read_cells(path, {**columns, "embedding": None})
        absent = [g for g in genes if g not in set(cells.genes)]
        if absent:
            raise
    logger.info("%s: the run's genes are not those of its obsm `%s`: they are read from X", path, columns["embedding"])
    index = pd.Index(cells.genes).get_indexer(genes)
    return replace(cells, X=Expression([cells.X.csr()[:, index]]), genes=genes)


def _baseline_effects(
    models: dict[str, EffectModel], pairs: list[tuple[str, str]], fallback: set[str], cells: Cells
) -> dict[str, np.ndarray]:
    """Every effect model's effects (R, G) for the pairs, as a population can show them: never below no expression.

    Where a gene has no vector, ``ridge`` and ``knn`` give the mean effect.
    """
    contexts, perturbations = [c for c, _ in pairs], [p for _, p in pairs]
    known = np.flatnonzero([p not in fallback for p in perturbations])
    lowest = -np.inf if cells.scale == "embedding" else -np.stack([_control_mean(cells, c) for c in contexts])
    effects = {}
    for name, model in models.items():
        if name in ("ridge", "knn") and len(known) < len(pairs):
            effect = models["mean"].predict(perturbations, contexts)
            effect[known] = model.predict([perturbations[i] for i in known], [contexts[i] for i in known])
        else:
            effect = model.predict(perturbations, contexts)
        effects[name] = np.maximum(effect, lowest)
    return effects


def _control_mean(cells: Cells, context: str) -> np.ndarray:
    """Mean of a context's control cells, (G,)."""
    rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
    return cells.X.mean(rows).astype(np.float32)


def _by_transition(
    run: RunDirectory,
    cells: Cells,
    requests: list[Request],
    table: FeatureTable,
    fallback: set[str],
    mean_effects: np.ndarray | None,
    seed: int,
) -> Iterator[np.ndarray]:
    """Predicted cells (n, G) of each request, in sets of the size trained on.

    The controls are dealt to sets at random; the last set is filled up with controls that sit in other sets
    already, whose second predictions are dropped. Only a request of fewer controls than a set makes a
    smaller one, padded and masked as in training.
    """
    import torch

    from stateshift.transition.checkpoint import load_transition

    model = load_transition(run, table.width)
    if model.config.gene_decoder:
        raise StateshiftError(
            f"{run.path} decodes its predictions to {model.config.gene_decoder:,} genes, which predict can't write yet."
        )
    batches = _batch_numbers(run, cells) if model.config.batch_encoder else None
    S = model.config.set_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    for i, request in track(list(enumerate(requests)), "predicting cells"):
        if request.perturbation in fallback:
            yield _shifted(cells, request, mean_effects[i])
            continue
        n = len(request.controls)
        x = torch.from_numpy(cells.X.dense(request.controls))
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
        dealt = torch.cat([order, order[: -n % S]]) if n >= S else order
        sets = x[dealt].view(-1, min(S, n), x.shape[1])
        p = torch.from_numpy(table.matrix([request.perturbation]))
        batch = {
            "ctrl_cell_emb": sets,
            "pert_emb": p.expand(len(sets), -1),
            "ctrl_mean": x.mean(0).expand(len(sets), -1),
        }
        if batches is not None:
            batch["batch"] = torch.from_numpy(batches[request.controls])[dealt].view(len(sets), -1)
        with torch.inference_mode():
            out = model({k: v.to(device) for k, v in batch.items()}).cells.reshape(len(dealt), -1)[:n].cpu()
        predicted = torch.empty_like(x)
        predicted[order] = out
        yield predicted.numpy()


def _batch_numbers(run: RunDirectory, cells: Cells) -> np.ndarray:
    """Each cell's batch as the model numbers them, (n,)."""
    known = run.batches()
    labels = cells.obs["batch"].to_numpy()
    strange = sorted(set(labels[cells.is_control]) - set(known))
    if strange:
        raise StateshiftError(
            f"The run tells batches apart, and the control cells are of batch `{strange[0]}`, which it was not trained "
            f"on{suggestion(strange[0], known)}."
        )
    return pd.Index(known).get_indexer(labels)


def _shifted(cells: Cells, request: Request, effect: np.ndarray) -> np.ndarray:
    """Control cells moved by a mean effect."""
    x = cells.X.dense(request.controls)
    return x + effect if cells.scale == "embedding" else shift_population(x, effect, x.mean(axis=0))
