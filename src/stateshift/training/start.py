"""Where a fine-tuning starts: its model's options, what it takes from its source, and what is held still."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.cells import Cells, EffectTable
from stateshift.effects import ridge_map_beyond
from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.run import RunDirectory
from stateshift.training.data import TrainingData
from stateshift.training.settings import LoraSettings, TrainingSettings

if TYPE_CHECKING:
    from stateshift.transition.fine_tuning.source import Source
    from stateshift.transition.fine_tuning.transfer import Transfer
    from stateshift.transition.model import TransitionModel

logger = logging.getLogger(__name__)

DIMS = ("hidden", "layers", "heads", "ffn", "encoder_layers", "decoder_layers", "basal_mlp", "mask_attn")
"""What the source's weights settle."""

OF_OUTPUT = {"output_space", "relu", "gene_decoder", "gene_decoder_widths"}
"""What is predicted: the source's where the cells are what its cells were, and the user names none of it."""

OF_ENCODER = {"encoder", "unfreeze_esm_layers", "source_widths", "source_dropout"}
"""How perturbations are encoded: the source's, unless the user names another encoder, or a model and with it one."""

READING = ("pert_encoder", "basal_encoder", "batch_encoder", "transformer_backbone")
"""Parts before the output: with adapters, those that are the source's as a whole are held still."""

RECORD = "init_from.json"
"""Of a run: what was kept of its source, and what was made anew."""


def find_source(path: str | Path | None, settings: TrainingSettings | None = None) -> Source | None:
    """What ``--init-from`` names, read; None without it, where no setting may ask to hold trained weights still."""
    from stateshift.transition.fine_tuning.lora import refuse_without_peft
    from stateshift.transition.fine_tuning.source import read_source

    adapted = settings is not None and LoraSettings(**settings.lora).rank > 0
    if adapted and path is None:
        raise StateshiftError("training.lora adapts a trained model: name one with --init-from.")
    if settings is not None and settings.freeze and path is None:
        raise StateshiftError("training.freeze holds trained weights still: name the model with --init-from.")
    if adapted:
        refuse_without_peft()
    return None if path is None else read_source(path)


def model_group(
    model: dict[str, Any], words: Sequence[str], source: Source, cells: Cells | None = None
) -> dict[str, Any]:
    """A config's ``model`` group with the options of a source, but for those that the user named.

    Parameters
    ----------
    model
        As composed.
    words
        The overrides it was composed by; ``model=…`` names every dim.
    source
        What is fine-tuned.
    cells
        Once they are read: what a source says of its output counts where they are what its own were.

    Raises
    ------
    InputProblems
        Dims that contradict the source's.
    """
    keys = {word.lstrip("+~").partition("=")[0] for word in words}
    named = {key.removeprefix("model.") for key in keys if key.startswith("model.")}
    theirs = source.model.config.settings()
    problems = [
        f"model.{name}={model[name]} contradicts the {theirs[name]} of {source.path}, whose weights are kept: leave "
        f"{f'model.{name}' if name in named else 'model=…'} out."
        for name in DIMS
        if (name in named or "model" in keys) and model[name] != theirs[name]
    ]
    if problems:
        raise InputProblems("--init-from", problems)
    if "model" in keys or "encoder" in named:
        named |= OF_ENCODER
    old = source.model.config
    same_space = cells is not None and (cells.scale == "embedding") == (old.space == "embedding")
    if not same_space or named & OF_OUTPUT or (old.every_gene and cells.every_gene is None):
        named |= OF_OUTPUT
    kept = {name: value for name, value in theirs.items() if name not in named and (same_space or name != "start")}
    tuned = source.name if source.name.endswith("_finetuned") else f"{source.name}_finetuned"
    return {**model, **kept, "name": model["name"] if "name" in named else tuned}


def begin(
    model: TransitionModel, source: Source | None, data: TrainingData, batches: Sequence[str], seed: int
) -> Transfer | None:
    """Give a new model its source's weights, where it has one, and its linear start; what was kept is logged.

    Returns
    -------
    Transfer or None
        None without a source.
    """
    from stateshift.transition.fine_tuning.transfer import transfer_weights

    if source is None:
        fit_linear_start(model, data, seed)
        return None
    transfer = transfer_weights(
        source, model, genes=data.cells.genes, every_gene=[] if data.every_gene is None else data.every_gene.genes,
        batches=batches, features=data.features, scale=data.cells.scale,
    )  # fmt: skip
    weight = fit_linear_start(model, data, seed)
    if weight:
        said = f"The frozen linear start is {weight:.2f} × the source's, and what that misses of the training effects."
        transfer = replace(transfer, notes=(*transfer.notes, said))
    for part in transfer.parts:
        logger.info("%s: %s%s", part.name, part.state, f" ({part.how})" if part.how else "")
    for note in transfer.notes:
        logger.info("%s", note)
    return transfer


def fit_linear_start(model: TransitionModel, data: TrainingData, seed: int) -> float:
    """Fit a model's linear start on training effects, beyond the one that it has, and return that one's weight."""
    import torch

    c = model.config
    if c.start != "effect":
        return 0.0

    def fitted(up: torch.Tensor, intercept: torch.Tensor, effects: EffectTable) -> tuple[list[torch.Tensor], float]:
        known = (model.effect_down.numpy(), up.numpy(), intercept.numpy())
        *parts, weight = ridge_map_beyond(known, effects, data.features_for(c.encoder), seed)
        return [torch.from_numpy(part) for part in parts], weight

    start, weight = fitted(
        model.effect_up, model.effect_intercept, data.every_gene if c.projects_every_gene else data.effects
    )
    if c.gene_decoder:
        (_, *of_genes), _ = fitted(model.gene_effect_up, model.gene_effect_intercept, data.every_gene)
        model.set_gene_start(*of_genes)  # the same features lead to the same factors
    model.set_start(*start)
    return weight


def write_transfer(run: RunDirectory, transfer: Transfer | None) -> None:
    """Keep in a run what it took from its source, where it has one."""
    if transfer is not None:
        run.write_text(RECORD, json.dumps(transfer.as_dict(), indent=1) + "\n")


def read_transfer(run: RunDirectory) -> Transfer | None:
    """What a run took from its source; None where it had none.

    Raises
    ------
    StateshiftError
        The record is damaged, or a run that was fine-tuned has none.
    """
    from stateshift.transition.fine_tuning.transfer import Transfer

    path = run.path / RECORD
    if "init_from" not in run.config():
        return None
    try:
        return Transfer.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateshiftError(f"{path} is missing or damaged: copy the run anew, or train again.") from error


def hold_still(model: TransitionModel, settings: TrainingSettings, transfer: Transfer) -> None:
    """Freeze the parts that ``training.freeze`` names; with ``training.lora``, put adapters in and freeze what reads.

    Raises
    ------
    StateshiftError
        A part that the model lacks or that was made anew, or nothing is left to train.
    """
    parts = {part.name: part.state for part in transfer.parts}
    frozen = list(settings.freeze)
    for name in frozen:
        if name not in parts:
            raise StateshiftError(f"training.freeze: the model has no part `{name}`{suggestion(name, parts)}.")
        if parts[name] == "re-made":
            raise StateshiftError(f"training.freeze: {name} was made anew and has to be trained: leave it out.")
    lora = LoraSettings(**settings.lora)
    if lora.rank:
        frozen += [name for name in READING if parts.get(name) == "kept"]
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    if lora.rank:
        from stateshift.transition.fine_tuning.lora import add_adapters

        add_adapters(model.transformer_backbone, lora.rank, lora.alpha, lora.dropout, lora.targets)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise StateshiftError(f"training.freeze={frozen} leaves nothing to train.")
    if frozen:
        every = sum(p.numel() for p in model.parameters())
        logger.info("held still: %s; %s of %s weights are trained", ", ".join(frozen), f"{trained:,}", f"{every:,}")
