"""Predicted cells by a run's network, and by the effects of its training cells what the network doesn't model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from stateshift.cells import Cells, EffectTable
from stateshift.effects.shift import shift_population
from stateshift.errors import StateshiftError, enough_memory, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.prediction.anchored import Backbone
from stateshift.prediction.asked.requests import Request
from stateshift.progress import track
from stateshift.run import RunDirectory
from stateshift.training.esm import equip

if TYPE_CHECKING:
    import torch

    from stateshift.transition.config import TransitionConfig
    from stateshift.transition.model import TransitionModel


class Predicted(NamedTuple):
    """The predicted cells of a request.

    Parameters
    ----------
    genes
        (n, genes of the prediction).
    embedding
        (n, D) where the network predicts an embedding beside the genes that the effects give.
    """

    genes: np.ndarray
    embedding: np.ndarray | None = None


def modelled_by(shape: TransitionConfig, genes: list[str], every_gene: list[str]) -> np.ndarray:
    """What gives each gene of a prediction: ``network``, ``decoder`` or ``effect``.

    Parameters
    ----------
    shape
        The model's.
    genes
        What its cells are.
    every_gene
        What is predicted, where that is more; else empty.
    """
    if shape.gene_decoder:
        return np.full(len(every_gene), "decoder", dtype=object)
    if not every_gene or shape.projects_every_gene:
        return np.full(len(every_gene or genes), "network", dtype=object)
    own = set(genes) if shape.space == "expression" else set()
    return np.array(["network" if gene in own else "effect" for gene in every_gene], dtype=object)


def refuse_unmodelled(genes: list[str], by: np.ndarray, effects: EffectTable | None, run: RunDirectory) -> None:
    """A StateshiftError where neither the network nor any effect says what becomes of a gene."""
    measured = (
        set() if effects is None else {g for g, all_of_it in zip(effects.genes, effects.measured.all(0)) if all_of_it}
    )
    absent = [gene for gene, what in zip(genes, by) if what == "effect" and gene not in measured]
    if absent:
        raise StateshiftError(
            f"{run.path}: the network doesn't model {some(absent)}, and {run.effects_file.name} holds no training effect of "
            f"{'it' if len(absent) == 1 else 'them'}, so that {len(absent):,} of {len(genes):,} genes can't be predicted: "
            "train anew on genes that every file measures, [columns] genes = a file of their names."
        )


def by_transition(
    run: RunDirectory,
    cells: Cells,
    requests: list[Request],
    table: FeatureTable,
    fallback: set[str],
    effects: Mapping[str, np.ndarray],
    seed: int,
    embedder: GeneEmbedder | None = None,
    backbone: Backbone | None = None,
) -> Iterator[Predicted]:
    """Predicted cells of each request, in sets of the size trained on.

    The controls are dealt to sets at random; the last set is filled up with controls that sit in other sets
    already, whose second predictions are dropped. Only a request of fewer controls than a set makes a
    smaller one, which is what padding and a mask come to in training.

    Parameters
    ----------
    run, cells, requests, table
        The run, its cells as `stateshift.prediction.asked.cells.read_population` reads them, what is asked, and vectors.
    fallback
        Perturbations that get the mean training effect.
    effects
        Effect model → effects (requests, genes of the prediction); ``ridge`` moves the genes that the network
        doesn't model, ``mean`` those of `fallback`.
    seed
        Deals the cells.
    embedder
        With the proteins of the perturbed genes, where the model reads them.
    backbone
        What the network starts from, where it starts from one; it predicts alone where the network isn't kept, and
        moves the genes that the network doesn't model in place of ``ridge``.
    """
    import torch

    from stateshift.transition.checkpoint import load_transition

    model = load_transition(run, table.width)
    if model.config.encoder == "esm":
        genes = [g for r in requests if r.perturbation not in fallback for g in genes_of(r.perturbation)]
        equip(model, table.subset(genes), embedder, cells.control)
    batches = _batch_numbers(run, cells) if model.config.batch_encoder else None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    if model.config.encoder == "sources":
        table = table.without_filled()
    by = modelled_by(model.config, cells.genes, run.every_gene())
    of_network = pd.Index((cells.every_gene or cells).genes).get_indexer(cells.genes) if "effect" in by else None
    embeds = "effect" in by and model.config.space == "embedding"
    for i, request in track(list(enumerate(requests)), "predicting cells"):
        if request.perturbation in fallback:
            unknown = np.full((len(request.controls), len(cells.genes)), np.nan, np.float32) if embeds else None
            yield Predicted(shifted(cells, request, effects["mean"][i]), unknown)
            continue
        if backbone is not None and not backbone.kept[i]:
            yield Predicted(shifted(cells, request, backbone.effects[i]))
            continue
        start = None if backbone is None else backbone.effects[i][slice(None) if of_network is None else of_network]
        made = _by_network(model, cells, request, table, batches, seed, device, start)
        if of_network is None:
            yield Predicted(made)
            continue
        moved = shifted(cells, request, (effects["ridge"] if backbone is None else backbone.effects)[i])
        if not embeds:
            moved[:, of_network] = made
        yield Predicted(moved, made if embeds else None)


def _by_network(
    model: TransitionModel,
    cells: Cells,
    request: Request,
    table: FeatureTable,
    batches: np.ndarray | None,
    seed: int,
    device: torch.device,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """What the network, or its gene decoder, gives for a request's controls, from an effect to start from if it needs one."""
    import torch

    S, n = model.config.set_size, len(request.controls)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    dealt = torch.cat([order, order[: -n % S]]) if n >= S else order
    populations = {"ctrl_cell_emb": cells}
    if model.starts_from_genes:
        populations["ctrl_cell_counts"] = cells.every_gene
    batch = {"pert_emb": torch.from_numpy(table.matrix([request.perturbation])).expand(len(dealt) // min(S, n), -1)}
    for name, population in populations.items():
        x = torch.from_numpy(population.X.dense(request.controls))
        batch[name] = x[dealt].view(-1, min(S, n), x.shape[1])
        mean = "ctrl_mean" if name == "ctrl_cell_emb" else "ctrl_counts_mean"
        # numpy's mean, which `shifted` takes: a network that adds nothing gives its start to the bit
        of_all = x.mean(0) if start is None else torch.from_numpy(x.numpy().mean(axis=0))
        batch[mean] = of_all.expand(len(batch[name]), -1)
    if start is not None:
        batch["start_effect"] = torch.from_numpy(start).expand(len(batch["pert_emb"]), -1)
    if batches is not None:
        batch["batch"] = torch.from_numpy(batches[request.controls])[dealt].view(len(batch["pert_emb"]), -1)
    with torch.inference_mode(), enough_memory(f"predict fewer cells at once with --n-cells {max(1, n // 2)}"):
        names = [request.perturbation] * len(batch["pert_emb"])
        output = model({name: value.to(device) for name, value in batch.items()} | {"pert_name": names})
    out = (output.cells if output.genes is None else output.genes).flatten(0, 1)[:n].cpu()
    predicted = torch.empty_like(out)
    predicted[order] = out
    return predicted.numpy()


def shifted(cells: Cells, request: Request, effect: np.ndarray) -> np.ndarray:
    """Control cells moved by a mean effect, on all that is predicted."""
    output = cells.every_gene or cells
    x = output.X.dense(request.controls)
    return x + effect if output.scale == "embedding" else shift_population(x, effect, x.mean(axis=0))


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
