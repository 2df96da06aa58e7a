"""The memory and the time that a run will need, told before anything is read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from stateshift.cells.loading import GIGABYTE
from stateshift.cells.splits import FEWEST_TO_KEEP_BACK
from stateshift.feature_table import FeatureTable
from stateshift.genes import GeneNames, proteins_of_genes
from stateshift.proteins import read_fasta
from stateshift.proteins.esm2.models import told_shape
from stateshift.proteins.esm2.precision import choose_precision
from stateshift.proteins.fasta import downloaded_proteome
from stateshift.training.anchored import too_few_to_judge
from stateshift.training.check import ExperimentCheck
from stateshift.training.held_back import KEPT_BACK, held_pairs

MEASURED = {"cpu": 2e10, "cuda": 2e12}
"""Most operations of a step that is tried out, by device: under a second or two."""
BYTES_A_PARAMETER = 16
"""Weight, gradient and Adam's two moments, float32."""

ROWS_A_LAYER, TYPICAL_PROTEIN = 16, 500
"""What a trained layer of ESM2 keeps for the backward pass, in rows of its width a residue; residues of a protein."""


@dataclass(frozen=True)
class Embedding:
    """What making ESM2's features takes as a training begins.

    Parameters
    ----------
    model, width, model_bytes
        The model, D, and its weights in memory.
    genes, residues
        Perturbed genes with a protein, and their residues together; None where no FASTA is at hand.
    seconds
        At the rate of one product of its matrices here: what attention, loading and fetching take comes on top.
    """

    model: str
    width: int
    model_bytes: int
    genes: int
    residues: int | None
    seconds: float | None


@dataclass(frozen=True)
class RunNeeds:
    """What a run takes; None where the width of the features isn't known.

    Parameters
    ----------
    matrix_bytes, in_memory
        Of the cells, and whether they stay in memory (``data.memory_gb``) or are read from the cache; beside an
        ``obsm`` array, ``X`` with every gene counts among them.
    feature_bytes
        Of the feature table.
    n_parameters, model_bytes
        Trained parameters; their weights, gradients and Adam's moments.
    step_bytes
        Of a batch and of what the model keeps of it for the backward pass; with unfrozen layers of ESM2, of a
        protein of typical length in every set.
    n_sets, batches_an_epoch, max_steps
        Training sets and batches until every training cell was served, and the steps that are configured.
    step_seconds
        Measured on this machine with made-up cells, reading left out; None where a step is too large to be tried,
        or trains layers of ESM2.
    device
        That it was measured on.
    embedding
        Of ESM2's features that are made as the training begins; None of others.
    notes
        Sentences on what the training will and won't do.
    """

    matrix_bytes: int
    in_memory: bool
    feature_bytes: int | None
    n_parameters: int | None
    model_bytes: int | None
    step_bytes: int | None
    n_sets: int
    batches_an_epoch: int
    max_steps: int
    step_seconds: float | None
    device: str
    embedding: Embedding | None = None
    notes: list[str] = field(default_factory=list)


def run_needs(found: ExperimentCheck, config: dict[str, Any]) -> RunNeeds:
    """The memory and time that training an experiment takes.

    Parameters
    ----------
    found
        What `stateshift.training.check_experiment` found.
    config
        As `stateshift.training.experiment_config` gives it.
    """
    import torch

    counts = _counts_as_trained(found, config)
    n_sets = _training_sets(found, counts, config)
    batch_size, steps = config["data"]["batch_size"], config["training"]["max_steps"]
    device = "cuda" if torch.cuda.is_available() and config["training"]["accelerator"] != "cpu" else "cpu"
    matrix_bytes = found.loaded_bytes + found.every_gene_bytes
    needs = RunNeeds(
        matrix_bytes,
        matrix_bytes <= config["data"]["memory_gb"] * GIGABYTE,
        None, None, None, None,
        n_sets, -(-n_sets // batch_size), steps, None, device, _embedding(found, device),
        [doubt] if _anchored(config) and (doubt := too_few_to_judge(counts)) else [],
    )  # fmt: skip
    table = found.features or _onehot(found) or (needs.embedding and (needs.embedding.genes, needs.embedding.width))
    if table is None:
        return needs
    n_vectors, width = table
    n_parameters, step_bytes, operations = _step(config, found, width, batch_size, "meta")[:3]
    seconds, unfrozen = None, config["model"].get("unfreeze_esm_layers", 0)
    if unfrozen:
        n_parameters += 12 * width * (width + 1) * unfrozen
        step_bytes += 4 * width * (ROWS_A_LAYER * unfrozen + 1) * TYPICAL_PROTEIN * batch_size
    elif operations * 2 / batch_size <= MEASURED[device]:
        _step(config, found, width, 2, device)
        seconds = _step(config, found, width, 2, device)[3] * batch_size / 2
    return replace(
        needs,
        feature_bytes=4 * n_vectors * width,
        n_parameters=n_parameters,
        model_bytes=BYTES_A_PARAMETER * n_parameters,
        step_bytes=step_bytes,
        step_seconds=seconds,
    )


def _onehot(found: ExperimentCheck) -> tuple[int, int] | None:
    """Vectors and width of a table that training makes itself."""
    return (len(found.genes), len(found.genes)) if found.experiment.features.get("source") == "onehot" else None


def _embedding(found: ExperimentCheck, device: str) -> Embedding | None:
    """Of the proteins that a training would embed; None of other features, and where only a model's weights tell its width."""
    declared, resolve = found.experiment.features, found.experiment.resolve
    if not declared or "table" in declared or declared.get("source", "esm2") != "esm2":
        return None
    checkpoint = declared.get("checkpoint")
    told = told_shape(resolve(checkpoint) if checkpoint and resolve(checkpoint).exists() else checkpoint)
    if told is None:
        return None
    name, layers, width = told
    weights = 12 * layers * width**2
    fasta = resolve(declared["fasta"]) if "fasta" in declared else downloaded_proteome()
    if fasta is None:
        return Embedding(name, width, 4 * weights, len(found.genes), None, None)
    names = GeneNames.from_hgnc(resolve(declared["aliases"])) if "aliases" in declared else None
    proteins = proteins_of_genes(found.genes, read_fasta(fasta, unique=True), str(fasta), names).found.values()
    residues = sum(len(protein.sequence) for protein in proteins)
    return Embedding(
        name, width, 4 * weights, len(proteins), residues, 2 * weights * residues / _product_rate(width, device)
    )


def _product_rate(width: int, device: str) -> float:
    """Operations a second of a product of ESM2's matrices, best of three."""
    import torch

    dtype = torch.bfloat16 if choose_precision("auto", torch.device(device), width)[0] == "bf16" else torch.float32
    rows = min(512, int(MEASURED[device] / (8 * width**2)))
    left, right = (torch.rand(shape, device=device, dtype=dtype) for shape in ((rows, width), (width, 4 * width)))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 8 * rows * width**2 / min(seconds)


def _anchored(config: dict[str, Any]) -> bool:
    return config["model"].get("start") == "backbone"


def _counts_as_trained(found: ExperimentCheck, config: dict[str, Any]) -> dict[str, dict[str, dict[str, int]]]:
    """Split → context → perturbation → cells, with the pairs in val that a network beside a backbone holds back."""
    if found.counts["val"] or not _anchored(config):
        return found.counts
    train, test = ({(p, c) for c, of in found.counts[split].items() for p in of} for split in ("train", "test"))
    held = held_pairs(train, test)
    kept, held_back = (
        {c: {p: n for p, n in of.items() if ((p, c) in held) is back} for c, of in found.counts["train"].items()}
        for back in (False, True)
    )
    return {**found.counts, "train": kept, "val": held_back}


def _training_sets(found: ExperimentCheck, counts: dict[str, dict[str, dict[str, int]]], config: dict[str, Any]) -> int:
    """Sets of an epoch, as `stateshift.cells.sets.CellSets` cuts them."""
    by = ["dataset", "file", "context", "perturbation"]
    train = found.groups[found.groups["split"] == "train"]
    sizes = train["cells"].to_numpy()
    if _anchored(config):
        trains = [p in counts["train"][c] for p, c in zip(train["perturbation"], train["context"])]
        sizes = np.where(trains, sizes, 0)
    elif not (found.groups["split"] == "val").any():
        sizes = sizes - np.where(sizes >= FEWEST_TO_KEEP_BACK, np.maximum(1, np.rint(KEPT_BACK * sizes)), 0).astype(int)
    if config["data"].get("by_batch"):
        cells = pd.concat([f.obs for f in found.files]).merge(train[by].assign(left=sizes / train["cells"]), on=by)
        groups = cells.groupby([*by, "batch"], observed=True)["left"]
        sizes = np.rint(groups.size().to_numpy() * groups.first().to_numpy())
    return int(np.ceil(sizes / config["model"]["set_size"]).sum())


def _step(
    config: dict[str, Any], found: ExperimentCheck, width: int, n_sets: int, device: str
) -> tuple[int, int, int, float]:
    """Parameters, bytes kept, operations and seconds of one training step; nothing is computed on ``meta``."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from stateshift.transition import TransitionModel, energy_distance
    from stateshift.transition.checkpoint import config_from

    batches = {batch for file in found.files for batch in file.obs["batch"].unique()} - {""}
    shape = config_from(config["model"], found.n_genes, width, found.scale, len(batches), found.n_every_gene)
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.device(device):
        model = TransitionModel(shape)
        cells = torch.rand(n_sets, shape.set_size, found.n_genes)
        batch = {"ctrl_cell_emb": cells, "pert_emb": torch.rand(n_sets, width)}
        if shape.encoder == "esm":
            model.pert_encoder.hold(FeatureTable(["A"], np.zeros((1, width))))
            batch["pert_name"] = ["A"] * n_sets
        batch["batch"] = torch.zeros(n_sets, shape.set_size, dtype=torch.long)
        if shape.start == "backbone":
            batch["start_effect"] = torch.zeros(n_sets, shape.width)
        if shape.predicts_every_gene:
            batch["ctrl_cell_counts"] = torch.rand(n_sets, shape.set_size, shape.every_gene)
    optimiser = torch.optim.Adam(model.parameters())
    start = time.perf_counter()
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor),
    ):
        output, loss = model(batch), 0
        for predicted in filter(lambda made: made is not None, (output.cells, output.genes)):
            # counting needs a backward pass, of any loss; measuring takes the one that a default training has
            measured = torch.rand_like(predicted)
            loss = (
                loss
                + ((predicted - measured).square() if device == "meta" else energy_distance(predicted, measured)).mean()
            )
        loss.backward()
    optimiser.step()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    n_parameters = sum(p.numel() for p in model.parameters())
    step_bytes = sum(kept.values()) + 2 * sum(t.nbytes for name, t in batch.items() if name.startswith("ctrl_cell"))
    return n_parameters, step_bytes, counter.get_total_flops(), seconds
