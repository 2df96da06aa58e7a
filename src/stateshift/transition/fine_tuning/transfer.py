"""Weights of a trained model into a new one, by the names of genes and batches.

Shapes: G genes or embedding width, F feature width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stateshift.feature_table import FeatureTable
from stateshift.transition.fine_tuning.shared import Pairs, same_features, shared_genes, shared_names, shared_predicted
from stateshift.transition.fine_tuning.source import Source
from stateshift.transition.model import TransitionModel


@dataclass(frozen=True)
class Part:
    """What became of one part of a model.

    Parameters
    ----------
    name
        As ``transformer_backbone``.
    state
        ``kept``, ``partly`` or ``re-made``.
    how
        What was matched, and what wasn't, and why; empty where all of it simply is the source's.
    """

    name: str
    state: str
    how: str = ""


@dataclass(frozen=True)
class Transfer:
    """What a new model took from a trained one.

    Parameters
    ----------
    source
        The checkpoint that was read.
    parts
        All parts of the new model.
    notes
        What is worth knowing besides, a sentence each.
    """

    source: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    def kept(self) -> list[str]:
        """Names of the parts that are the source's as a whole."""
        return [part.name for part in self.parts if part.state == "kept"]

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for a JSON file."""
        return {"source": self.source, "parts": [asdict(part) for part in self.parts], "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Transfer:
        """From what `as_dict` gave."""
        return cls(stored["source"], tuple(Part(**part) for part in stored["parts"]), tuple(stored["notes"]))


def transfer_weights(
    source: Source,
    model: TransitionModel,
    *,
    genes: Sequence[str],
    every_gene: Sequence[str],
    batches: Sequence[str],
    features: FeatureTable,
    scale: str,
) -> Transfer:
    """Give a new model all that a trained one knows of the same genes, features and batches.

    Rows and columns of genes that both have go to their new places. A new gene's output starts as in any new model;
    nothing is read of it at first (its input weights are zeros), so that what is kept works as it did. A new
    batch starts at the mean of the source's. The source's linear start, where it is of the same features and
    outputs, becomes the new one's, to be fitted further.

    Parameters
    ----------
    source
        The trained model; its hidden widths are the new one's.
    model
        The new one, whose weights are changed.
    genes, every_gene, batches, features, scale
        What the new one reads and gives; ``every_gene`` of its cells' files where they hold more than the cells.

    Raises
    ------
    StateshiftError
        The source shares no gene with the cells, or doesn't name its own and has another number of them.
    """
    notes = _notes(source, scale)
    shared = {
        "genes": shared_genes(source, model, genes, notes),
        "every gene": shared_names(every_gene, source.every_gene or []),
        "batches": shared_names(batches, source.batches or []),
    }
    shared["predicted"] = shared_predicted(source, model, genes, every_gene, shared["genes"])
    remade = _remade(source.model, model, shared)
    same, told = same_features(source.features, features, source.model.config.features)
    if not same:
        remade["pert_encoder."] = told
    old, axes = source.model.state_dict(), _axes(model)
    done: dict[str, list[tuple[str, str]]] = {name: [] for name, _ in model.named_children()}
    if same and told:
        done["pert_encoder"].append(("kept", told))
    for name, new in model.state_dict().items():
        if (part := name.partition(".")[0]) not in done:
            continue
        reason = next((why for prefix, why in remade.items() if name.startswith(prefix)), "")
        reason = reason or _unfit(new, old.get(name), axes.get(name))
        if reason:
            done[part].append(("re-made", reason))
        elif name in axes:
            done[part].append(_place(new, old[name], axes[name], shared[axes[name].of]))
        else:
            new.copy_(old[name])
            done[part].append(("kept", ""))
    if model.config.start == source.model.config.start == "effect":
        if same and shared["predicted"] is not None:
            _place_start(old, model, shared)
        else:
            notes.append(f"The source's linear start is left out: it is of other {'outputs' if same else 'features'}.")
    return Transfer(source.checkpoint.name, tuple(_part(name, each) for name, each in done.items()), tuple(notes))


def _place_start(old: Mapping[str, Tensor], model: TransitionModel, shared: Mapping[str, Pairs | None]) -> None:
    """The source's linear start on the new outputs; nothing for those that it lacks."""
    down, c = old["effect_down"], model.config

    def spread(name: str, n: int, of: str) -> Tensor:
        ours, theirs = shared[of]
        new = torch.zeros(*(down.shape[1:] if name.endswith("up") else ()), n)
        if name in old:
            new[..., ours] = old[name][..., theirs]
        return new

    model.set_start(down.clone(), *(spread(f"effect_{part}", c.width, "predicted") for part in ("up", "intercept")))
    if c.gene_decoder:
        model.set_gene_start(*(spread(f"gene_effect_{p}", c.every_gene, "every gene") for p in ("up", "intercept")))


def _part(name: str, done: list[tuple[str, str]]) -> Part:
    """A part, from what became of each of its weights."""
    states = {state for state, _ in done}
    hows = dict.fromkeys(how for _, how in done if how)
    return Part(name, states.pop() if len(states) == 1 else "partly", "; ".join(hows))


class Axis(NamedTuple):
    """An axis of a weight that stands for names.

    ``of`` says which: ``genes`` that are read, those ``predicted`` by the projection, ``every gene`` of the decoder,
    ``batches``. ``start`` is where names that the source lacks begin: at ``zero``, at the ``mean`` of the source's,
    or as they are in a ``new`` model.
    """

    number: int
    of: str
    start: str


def _axes(model: TransitionModel) -> dict[str, Axis]:
    """The weights that have one."""
    read, last, decoded = Axis(1, "genes", "zero"), _last(model, "project_out"), _last(model, "gene_decoder")
    predicted, every = Axis(0, "predicted", "new"), Axis(0, "every gene", "new")
    return {
        "basal_encoder.0.weight": read, "bottleneck.0.weight": read, "gene_decoder.0.weight": read,
        f"{last}weight": predicted, f"{last}bias": predicted,
        "bottleneck.2.weight": predicted, "bottleneck.2.bias": predicted,
        f"{decoded}weight": every, f"{decoded}bias": every,
        "batch_encoder.weight": Axis(0, "batches", "mean"),
        "batch_token.classifier.weight": Axis(0, "batches", "new"),
        "batch_token.classifier.bias": Axis(0, "batches", "new"),
    }  # fmt: skip


def _place(new: Tensor, old: Tensor, axis: Axis, shared: Pairs) -> tuple[str, str]:
    """Copy what both have to its new place, and tell how much that was."""
    ours, theirs = (torch.tensor(places, dtype=torch.long) for places in shared)
    if axis.start == "zero":
        new.zero_()
    elif axis.start == "mean":
        new.copy_(old.mean(axis.number, keepdim=True).expand_as(new))
    new.index_copy_(axis.number, ours, old.index_select(axis.number, theirs))
    n, of = len(ours), new.shape[axis.number]
    return "kept" if n == of else "partly", f"{n:,} of {of:,} {'batches' if axis.of == 'batches' else 'genes'}"


def _unfit(new: Tensor, old: Tensor | None, axis: Axis | None) -> str:
    """Why a weight can't be the source's; empty where it can."""
    if old is None:
        return "the source has none"
    free = None if axis is None else axis.number
    widths = [[n for i, n in enumerate(weight.shape) if i != free] for weight in (new, old)]
    return "" if widths[0] == widths[1] else "the source's is of another width"


def _last(model: TransitionModel, part: str) -> str:
    """How the names of a part's last linear layer begin; what no weight is called where the model lacks the part."""
    layers = getattr(model, part, ())
    return f"{part}.{max((i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)), default=-1)}."


def _remade(old: TransitionModel, new: TransitionModel, shared: Mapping[str, Pairs | None]) -> dict[str, str]:
    """Beginning of a weight's name → why it means something else in the new model."""
    ours, theirs, last = new.config, old.config, _last(new, "project_out")
    embedding = f"an embedding of {theirs.genes:,} dimensions"
    remade = {}
    if shared["genes"] is None:
        why = f"the source's cells are {embedding if theirs.space == 'embedding' else 'genes'}"
        remade |= dict.fromkeys(("basal_encoder.0.", "bottleneck.", "gene_decoder.0."), why)
    if shared["predicted"] is None:
        gives = embedding if theirs.space == "embedding" and not theirs.projects_every_gene else "other genes"
        remade |= dict.fromkeys((last, "bottleneck."), f"the source gives {gives}")
    changed = [option for option in ("start", "predict_residual") if getattr(ours, option) != getattr(theirs, option)]
    changed += ["output_space"] if ours.bottleneck != theirs.bottleneck else []
    for option in changed:
        why = f"model.{option}={getattr(ours, option)} in place of {getattr(theirs, option)}"
        remade |= dict.fromkeys((last, "bottleneck."), why)
        if option == "start":
            remade[_last(new, "gene_decoder")] = why
    return remade


def _notes(source: Source, scale: str) -> list[str]:
    """What is worth knowing before any weight is looked at."""
    notes = []
    if source.scale != scale and "log1p" not in (source.scale, scale) and "embedding" not in (source.scale, scale):
        notes.append(f"The source was trained on {source.scale} and these cells are {scale}.")
    return notes
