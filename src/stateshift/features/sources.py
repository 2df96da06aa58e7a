"""The sources of feature vectors by name, ours and those of other packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable

GROUP = "stateshift.features"
BUILT_IN = {
    "esm2": "stateshift.features.esm2:esm2_features",
    "onehot": "stateshift.features.onehot:onehot_features",
    "table": "stateshift.features.table:table_features",
}
POLICIES = ("error", "zero", "mean", "drop")


@dataclass(frozen=True)
class FeatureRequest:
    """What a source is asked for.

    Parameters
    ----------
    genes
        Symbols, each once.
    output
        The table's final name; a source may keep unfinished work beside it.
    fasta, checkpoint, lookup, aliases
        What the user named; a source uses what it needs.
    layer, pooling
        Of a protein language model: which layer, and how one vector comes of its residues.
    coverage
        Where a source that looks genes up writes what it found for each.
    missing
        What becomes of genes without a vector, one of `POLICIES`.
    """

    genes: list[str]
    output: Path
    fasta: Path | None = None
    checkpoint: str | None = None
    lookup: Path | None = None
    aliases: Path | None = None
    layer: int = -1
    pooling: str = "mean"
    coverage: Path | None = None
    missing: str = "error"

    def refuse_missing(self, missing: Mapping[str, str], where: str) -> None:
        """Stop before any costly work where genes have no vector and the user chose no policy.

        Parameters
        ----------
        missing
            Gene → why.
        where
            What was searched.

        Raises
        ------
        StateshiftError
            ``missing`` is not empty and the policy is ``error``; all genes are named.
        """
        if not missing or self.missing != "error":
            return
        lines = "\n".join(f"  - {gene}: {why}" for gene, why in missing.items())
        raise StateshiftError(
            f"{len(missing)} of {len(self.genes)} genes have no vector from {where}:\n{lines}\n"
            "Mend the names or the source, or say what becomes of them with --missing zero, mean or drop."
        )


FeatureSource = Callable[[FeatureRequest], FeatureTable]
"""A source answers a request with the vectors it has, and ``provenance["missing"]``: gene → why, for the rest."""


def feature_source(name: str) -> FeatureSource:
    """The source of a name: one of ours, or an entry point of the group ``stateshift.features``.

    Raises
    ------
    StateshiftError
        No source has the name, or the package that offers it can't be imported.
    """
    if name in BUILT_IN:
        module, function = BUILT_IN[name].split(":")
        return getattr(import_module(module), function)
    offered = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in offered:
        near = suggestion(name, [*BUILT_IN, *offered])
        raise StateshiftError(f"There is no feature source `{name}`{near}.")
    try:
        return offered[name].load()
    except (ImportError, AttributeError) as error:
        raise StateshiftError(
            f"The feature source `{name}` ({offered[name].value}) can't be loaded: {error}"
        ) from error
