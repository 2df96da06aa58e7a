"""The proteins behind a training's genes, for an encoder that reads genes by name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stateshift.cells import Experiment
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.files import sha256
from stateshift.proteins import load_esm2
from stateshift.proteins.esm2.models import checked_layer
from stateshift.proteins.fasta import downloaded_proteome

if TYPE_CHECKING:
    from stateshift.transition import TransitionModel

logger = logging.getLogger(__name__)


def find_embedder(experiment: Experiment, table: FeatureTable) -> GeneEmbedder | None:
    """What embeds genes as a table's were, with the proteins of those in it.

    Parameters
    ----------
    experiment
        Its ``[features]`` name ``checkpoint``, ``fasta`` and ``aliases``; and ``layer`` and ``pooling`` of a table
        that doesn't tell its own.
    table
        The vectors of the genes that are trained on.

    Returns
    -------
    GeneEmbedder or None
        None where neither the table nor ``[features]`` name an ESM2 model.

    Raises
    ------
    StateshiftError
        The checkpoint can't be loaded, or gives other vectors than the table's.
    """
    declared, told = experiment.features, table.provenance
    files = {key: experiment.resolve(declared[key]) for key in ("fasta", "aliases") if key in declared}
    checkpoint = declared.get("checkpoint")
    if checkpoint is not None and experiment.resolve(checkpoint).exists():
        checkpoint = str(experiment.resolve(checkpoint))
    if told.get("source") == "esm2" and "model_sha256" in told:
        recipe = {key: told[key] for key in ("model", "model_sha256", "layer", "pooling")}
        embedder = GeneEmbedder(**recipe, precision=told.get("precision", "fp32"), checkpoint=checkpoint, **files)
    elif checkpoint is not None:
        esm = load_esm2(checkpoint)
        layer, pooling = checked_layer(declared.get("layer", -1), esm.layers), declared.get("pooling", "mean")
        embedder = GeneEmbedder(esm.name, esm.sha256, layer, pooling, esm.precision, checkpoint, **files)
    else:
        logger.warning(
            "the features tell of no ESM2 model, so that no gene beyond them can be embedded later: name the model that "
            "they are of as  checkpoint  in [features]"
        )
        return None
    fasta = embedder.fasta or downloaded_proteome()
    if fasta is None:
        logger.warning("no proteins are at hand: genes without a vector will need  predict --fasta")
        return embedder
    filled = told.get("missing_policy", {})
    embedder.find([gene for gene in table.genes if gene not in filled])
    if told.get("fasta_sha256") != sha256(fasta):
        embedder.prove(table)
    return embedder


def equip(model: TransitionModel, table: FeatureTable, embedder: GeneEmbedder | None, control: str) -> None:
    """Give a model's ``esm`` encoder its vectors and, where layers are unfrozen, those and what they read.

    Parameters
    ----------
    model
        Its encoder may have its layers already, as `stateshift.transition.checkpoint.make_room` gives them.
    table
        The vectors of all genes that it will meet.
    embedder
        With the proteins of those genes.
    control
        The control's name.

    Raises
    ------
    StateshiftError
        Layers are unfrozen and their model or proteins are not at hand, or the vectors are not of its last layer.
    """
    encoder, n_layers = model.pert_encoder, model.config.unfreeze_esm_layers
    encoder.hold(table, control)
    if not n_layers:
        return
    if embedder is not None:
        embedder.find(table.genes)
    proteins = {g: embedder.sequences[g] for g in table.genes if g in embedder.sequences} if embedder else {}
    if not proteins:
        raise StateshiftError(
            f"model.unfreeze_esm_layers={n_layers} reads proteins: name the checkpoint and the fasta that the vectors are "
            "of in [features]."
        )
    without = [gene for gene in table.genes if gene not in proteins]
    if without:
        logger.warning("no protein of %s: their vectors stay as they are", some(without, 20))
    states = embedder.states(n_layers)
    if encoder.last_layers is None:
        from stateshift.proteins.esm2.last_layers import LastLayers

        esm = embedder.load(precision="fp32")
        if embedder.layer != esm.layers:
            raise StateshiftError(
                f"model.unfreeze_esm_layers={n_layers}: the vectors are of layer {embedder.layer}, and ESM2's layers can be "
                f"unfrozen below the last, {esm.layers}, alone."
            )
        encoder.unfreeze(LastLayers.of(esm.network, n_layers))
    states.ensure(proteins.values())
    encoder.read_states(lambda gene: states[proteins[gene]] if gene in proteins else None)
