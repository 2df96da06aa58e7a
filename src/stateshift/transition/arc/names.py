"""What the columns of an arc-state run's weights are called: genes, perturbations, batches."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.transition.arc.files import read_pickled

if TYPE_CHECKING:
    from stateshift.transition.arc.run import ArcRun

logger = logging.getLogger(__name__)


def gene_names(arc: ArcRun) -> list[str]:
    """Names of what the model's cells are: genes, or dimensions of an embedding.

    Beside a decoder to every gene, arc-state doesn't store which genes the columns of its ``X_hvg`` are: they go
    by their numbers, as an embedding's.
    """
    config, key = arc.model.config, arc.options.get("embed_key")
    if config.space == "embedding" or config.gene_decoder:
        return [f"{key}_{i}" for i in range(config.genes)]
    return _stored_names(arc, config.genes, "predicts")


def every_gene_names(arc: ArcRun) -> list[str]:
    """Names of the genes that the model decodes; none without a decoder."""
    config = arc.model.config
    return _stored_names(arc, config.every_gene, "decodes") if config.gene_decoder else []


def _stored_names(arc: ArcRun, n: int, does: str) -> list[str]:
    names = arc.options.get("gene_names")
    if names is None and (arc.folder / "var_dims.pkl").is_file():
        names = read_pickled(arc.folder / "var_dims.pkl").get("gene_names")
    if names is None:
        raise StateshiftError(f"{arc.checkpoint} names no genes, and no var_dims.pkl lies in {arc.folder}.")
    names = [str(name) for name in names]
    if len(names) != n:
        raise StateshiftError(
            f"{arc.folder} names {len(names):,} genes and {arc.checkpoint.name} {does} {n:,}: which they are "
            "isn't stored, or the checkpoint is another run's."
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise StateshiftError(f"{arc.folder} names genes twice: {some(twice)}; make them unique before training.")
    return names


def perturbation_vectors(arc: ArcRun) -> FeatureTable:
    """The perturbations' vectors; what had none, and the control, left out."""
    path = arc.folder / "pert_onehot_map.pt"
    stored = read_pickled(path)
    width, control = arc.model.config.features, str(arc.options.get("control_pert", "non-targeting"))
    vectors = {str(name): np.asarray(vector, np.float32).reshape(-1) for name, vector in stored.items()}
    wrong = [name for name, vector in vectors.items() if len(vector) != width]
    if wrong:
        raise StateshiftError(
            f"{path} has {len(vectors[wrong[0]]):,} features for {wrong[0]} and {arc.checkpoint.name} takes {width:,}: "
            "they are of different runs."
        )
    empty = sorted(name for name, vector in vectors.items() if not vector.any() and name != control)
    if empty:
        logger.warning("%s: zeros in place of a vector, left out: %s", path, some(empty, 20))
    kept = {name: vector for name, vector in vectors.items() if vector.any() and name != control}
    singles = {name: vector for name, vector in kept.items() if genes_of(name) == [name]}
    sums = {n: np.sum([singles[g] for g in genes_of(n)], axis=0) for n in kept if set(genes_of(n)) <= set(singles)}
    differ = sorted(
        n for n in kept if n not in singles and not (n in sums and np.allclose(sums[n], kept[n], atol=1e-5))
    )
    if differ:
        logger.warning("%s: vectors that aren't the sum of their genes', left out: %s", path, some(differ, 20))
    if arc.options.get("perturbation_features_file") is None:
        logger.warning(
            "%s: one-hot perturbations; which of them were trained isn't stored, and those that weren't say nothing",
            path,
        )
    return FeatureTable.from_mapping(singles, {"source": "arc_state", "file": path.name}, str(path))


def batch_names(arc: ArcRun) -> list[str]:
    """The batches in the order of the model's embedding."""
    stored = read_pickled(arc.folder / "batch_onehot_map.torch")
    place = {str(name): int(np.asarray(one_hot).argmax()) for name, one_hot in stored.items()}
    if sorted(place.values()) != list(range(arc.model.config.batches)):
        raise StateshiftError(
            f"{arc.folder / 'batch_onehot_map.torch'} names {len(place)} batches and {arc.checkpoint.name} tells "
            f"{arc.model.config.batches} apart: they are of different runs."
        )
    return sorted(place, key=place.__getitem__)
