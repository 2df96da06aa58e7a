"""What a new model and a trained one have in common: genes, names, features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.transition.fine_tuning.source import Source
from stateshift.transition.model import TransitionModel

Pairs = tuple[list[int], list[int]]
"""Places of what two models share: in the new one, and in the source."""

SAME_VECTOR = 0.01
"""Relative distance below which two vectors of a gene are the same, computed on other hardware."""

MOST = 0.95
"""Part of the genes in two tables whose vectors have to be the same."""


def shared_names(ours: Sequence[str], theirs: Sequence[str]) -> Pairs:
    """Places of the names that both lists hold."""
    place = {name: i for i, name in enumerate(theirs)}
    both = [(i, place[name]) for i, name in enumerate(ours) if name in place]
    return [i for i, _ in both], [j for _, j in both]


def shared_genes(source: Source, model: TransitionModel, genes: Sequence[str], notes: list[str]) -> Pairs | None:
    """Places of the genes, or dimensions, that mean the same; None where none can."""
    c, everything = source.model.config, (list(range(len(genes))),) * 2
    if c.space != model.config.space:
        return None
    if source.genes is None:
        folder = source.checkpoint.parent
        folder = folder.parent if folder.name == "checkpoints" else folder
        if c.genes != len(genes):
            raise StateshiftError(
                f"{source.path} names no genes, and has {c.genes:,} where the cells have {len(genes):,}: put the "
                f"var_dims.pkl of its run, which names them, into {folder}."
            )
        notes.append(
            f"{source.path.name} names no genes: its {c.genes:,} are taken for the cells' in their order. The "
            f"var_dims.pkl of its run, put into {folder}, would have them matched by name."
        )
        return everything
    if c.space == "embedding":
        return everything if source.genes == list(genes) else None
    shared = shared_names(genes, source.genes)
    if not shared[0]:
        raise StateshiftError(
            f"{source.path} and the cells share no gene: it has {some(source.genes, 3)}; they have {some(genes, 3)}. "
            "Bring both to the same names."
        )
    if left := len(source.genes) - len(shared[0]):
        notes.append(f"{left:,} of the source's {len(source.genes):,} genes are not among the cells' and are left out.")
    return shared


def shared_predicted(
    source: Source, model: TransitionModel, genes: Sequence[str], every_gene: Sequence[str], shared_genes: Pairs | None
) -> Pairs | None:
    """Places of what both projections give; None where that is nothing."""
    ours, theirs = model.config, source.model.config
    if not (ours.projects_every_gene or theirs.projects_every_gene):
        return shared_genes
    if any(c.space == "embedding" and not c.projects_every_gene for c in (ours, theirs)):
        return None
    given = every_gene if ours.projects_every_gene else genes
    shared = shared_names(given, (source.every_gene if theirs.projects_every_gene else source.genes) or [])
    return shared if shared[0] else None


def same_features(theirs: FeatureTable | None, ours: FeatureTable, width: int) -> tuple[bool, str]:
    """Whether both tables hold the same features, and by what."""
    if ours.width != width:
        return False, f"{ours.width:,} features in place of {width:,}"
    if theirs is None:
        return True, "features of the same width; no vectors lie beside the source to compare"
    both = [gene for gene in ours.genes if gene in theirs]
    sources = [table.provenance.get("source") for table in (ours, theirs)]
    if "onehot" in sources and len(both) < len(ours.genes):
        return False, "one-hot features of other genes"
    if both:
        a, b = ours.matrix(both), theirs.matrix(both)
        same = int((np.linalg.norm(a - b, axis=1) <= SAME_VECTOR * np.linalg.norm(b, axis=1)).sum())
        return same >= MOST * len(both), f"the vectors of {same:,} of {len(both):,} genes in both tables are the same"
    named = [[str(table.provenance.get(key, "")) for key in ("source", "model")] for table in (ours, theirs)]
    if named[0] != named[1] and sources[1] != "arc_state":
        return False, f"features of {' '.join(named[0]).strip()} in place of {' '.join(named[1]).strip()}"
    return True, "features of the same width; no gene is in both tables to compare"
