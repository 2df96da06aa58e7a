"""Feature vectors for what is to be predicted, and what becomes of genes that have none."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)

MADE_BY = ("source", "model_sha256", "aggregator_sha256", "layer", "pooling")
"""Of a table's provenance, what decides the meaning of its columns."""
OF_THEIR_FILE = ("gene_sets", "network", "expression", "screen")
"""Sources whose columns come of the file that they read."""
OF_THEIR_GENES = ("symbol", "fusion")
"""Sources whose columns come of the genes that are in the table."""


def find_vectors(
    run: RunDirectory,
    extra: str | Path | None,
    pairs: Sequence[tuple[str, str]],
    embedder: GeneEmbedder | None = None,
) -> tuple[FeatureTable, dict[str, str]]:
    """Vectors for the pairs, from the run's table, the extra one and proteins, and gene → why it has none.

    A one-hot vector says nothing of a gene that was not perturbed in training, so such a gene has none.
    """
    table = FeatureTable.load(run.features_file)
    if table.provenance.get("source") == "onehot":
        trained = {g for perts in run.splits()["train"].values() for p in perts for g in genes_of(p)}
        return table, dict.fromkeys({g for _, p in pairs for g in genes_of(p)} - trained, "")
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
            if found:
                logger.info("vectors of %d genes taken from %s", len(found), path)
            filled = [g for g in found if g in more.provenance.get("missing_policy", {})]
            if filled:
                logger.warning("no vector of their own, filled in when %s was made: %s", path.name, some(filled, 20))
            table = _joined(table, more.subset(found))
            absent = [g for g in absent if g not in more]
        elif extra:
            raise StateshiftError(f"{extra}: there is no such feature table.")
    if absent and embedder is not None:
        _refuse_other_spelling(absent, table, run.path)
        made, why = embedder.embed(absent)
        return _joined(table, made), why
    return table, dict.fromkeys(absent, "")


def find_embedder(
    run: RunDirectory, fasta: str | Path | None = None, checkpoint: str | None = None
) -> GeneEmbedder | None:
    """What embeds genes that no table holds, where the run recorded it.

    Raises
    ------
    StateshiftError
        A FASTA or checkpoint is named that nothing would read.
    """
    embedder = GeneEmbedder.of_run(run, checkpoint=checkpoint, fasta=fasta)
    if embedder is None and (fasta or checkpoint):
        raise StateshiftError(
            f"{'--fasta' if fasta else '--checkpoint'} embeds genes for a run that recorded an ESM2 model "
            f"(model.encoder=esm), and {run.path} did not: make a table with create_esm_pert_features and pass --features."
        )
    return embedder


def _refuse_other_spelling(genes: Sequence[str], table: FeatureTable, run: Path) -> None:
    """A StateshiftError for a trained gene in another capitalisation: proteins would be found for it, as for a new gene."""
    known = {gene.casefold(): gene for gene in table.genes}
    twins = [f"`{gene}` is `{known[gene.casefold()]}`" for gene in genes if gene.casefold() in known]
    if twins:
        raise StateshiftError(f"{some(twins)} of {run}, spelt otherwise: name genes as the run does.")


def _joined(table: FeatureTable, more: FeatureTable) -> FeatureTable:
    """Both tables' genes, where the second has any, each known as filled in where it was."""
    if not len(more):
        return table
    filled = {g: how for g, how in more.provenance.get("missing_policy", {}).items() if g in more}
    provenance = table.provenance | {"missing_policy": table.provenance.get("missing_policy", {}) | filled}
    return FeatureTable([*table.genes, *more.genes], np.concatenate([table.vectors, more.vectors]), provenance)


def _require_same_vectors(table: FeatureTable, more: FeatureTable, path: Path) -> None:
    """A table of another model would be read as nonsense, so genes in common must agree, or else what made the tables."""
    common = [g for g in table.genes if g in more]
    if common:
        if not np.allclose(table.subset(common).vectors, more.subset(common).vectors, rtol=1e-3, atol=1e-4):
            raise StateshiftError(
                f"{path} holds other vectors than the run for the same genes: it is from another model."
            )
        return
    ours, theirs = table.provenance, more.provenance
    source = ours.get("source")
    # a table that was copied tells less of itself
    if "table" in (source, theirs.get("source")):
        return
    if source == theirs.get("source") and source in OF_THEIR_GENES:
        raise StateshiftError(
            f"{path} has no gene of the run, and what a column of `{source}` means depends on the genes that a table holds: "
            "make one of the run's genes and the new ones, and train on it."
        )
    keys = (*MADE_BY, "lookup_sha256") if source in OF_THEIR_FILE else MADE_BY
    other = [
        f"{k} {theirs[k]}, the run's {ours[k]}" for k in keys if k in ours and k in theirs and ours[k] != theirs[k]
    ]
    if other:
        raise StateshiftError(f"{path} is from another model than the run's table: {some(other)}. Make it as that was.")


def apply_policy(
    pairs: list[tuple[str, str]], unknown: Mapping[str, str], missing: str, table: FeatureTable
) -> list[tuple[str, str]]:
    """The pairs that are left under a policy for genes without a vector: ``error``, ``drop`` or ``fallback``."""
    names = sorted(unknown)
    if missing == "error":
        if table.provenance.get("source") == "onehot":
            raise StateshiftError(
                f"One-hot features say nothing of {some(names, 20)}, which no training cell was perturbed in: train on a "
                "table with --pert-features, or pass --missing drop|fallback."
            )
        hint = suggestion(names[0], table.genes) if len(names) == 1 else ""
        told = [f"{gene}: {unknown[gene]}" for gene in names if unknown[gene]]
        hint = f" ({'; '.join(told[:20])})" if told else hint
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
