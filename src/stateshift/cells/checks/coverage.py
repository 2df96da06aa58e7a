"""Which perturbations of each split have feature vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from stateshift.errors import some
from stateshift.feature_table import FeatureTable, genes_of, named_otherwise

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitCoverage:
    """Of one split: perturbations whose genes all have a vector, the others, and the genes they lack."""

    split: str
    covered: list[str]
    uncovered: list[str]
    missing_genes: list[str]


def coverage_by_split(groups: pd.DataFrame, covered: Collection[str]) -> list[SplitCoverage]:
    """Coverage of the perturbations of train, val and test, those without cells left out.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    covered
        The genes that have a vector.
    """
    found = []
    for split in SPLITS:
        names = sorted(groups.loc[groups["split"] == split, "perturbation"].unique())
        absent = {name: [gene for gene in genes_of(name) if gene not in covered] for name in names}
        lacking = [name for name in names if absent[name]]
        if names:
            missing = sorted({gene for name in lacking for gene in absent[name]})
            found.append(SplitCoverage(split, [name for name in names if not absent[name]], lacking, missing))
    return found


def untold_by_onehot(counts: Mapping[str, Mapping[str, Iterable[str]]]) -> list[str]:
    """A sentence on held-out genes that one-hot features can't tell of, for no training cell is perturbed in them.

    Parameters
    ----------
    counts
        split → context → perturbations, as `stateshift.cells.splits.split_counts` gives them.

    Examples
    --------
    >>> untold_by_onehot({"train": {"K562": ["A"]}, "test": {"K562": ["A+B"]}})[0][:60]
    'One-hot features say nothing of B, held out, in which no tra'
    """
    genes = {name: {g for of in counts.get(name, {}).values() for p in of for g in genes_of(p)} for name in SPLITS}
    untold = sorted((genes["val"] | genes["test"]) - genes["train"])
    if not untold:
        return []
    return [
        f"One-hot features say nothing of {some(untold)}, held out, in which no training cell is perturbed: a prediction "
        "refuses them. Name a table or another source in [features], or hold out cell types in place of genes."
    ]


def coverage_problems(
    coverage: list[SplitCoverage],
    policy: str,
    lacking: Mapping[str, str],
    source: str | None,
    table: FeatureTable | None = None,
) -> list[str]:
    """What training would refuse: perturbations without a vector, unless a policy is named.

    Parameters
    ----------
    lacking
        Gene → why it has none.
    source
        What is to make the vectors, and of which files; None for a table that is there.
    table
        That.
    """
    if policy != "error":
        return []
    way = "make a table that holds them (create_esm_pert_features)"
    if table is not None and any(named_otherwise(c.missing_genes, table.genes) for c in coverage):
        way = 'find them by their other names: [features] source = "table", lookup = the table, aliases = HGNC\'s table'
    if source is not None:
        way = (
            "mend the names or what the source reads, name HGNC's table as [features] aliases where it takes one; drugs and "
            'cytokines take [features] source = "onehot" or a table of theirs'
        )
    problems = []
    for c in (c for c in coverage if c.uncovered):
        named = some(c.missing_genes, 20) + ("" if table is None else named_otherwise(c.missing_genes, table.genes))
        if source is not None:
            named = some([f"{gene}: {lacking[gene]}" for gene in c.missing_genes], 5)
        problems.append(
            f"{c.split}: {len(c.uncovered):,} of {len(c.covered) + len(c.uncovered):,} perturbations have no feature vector"
            f"{'' if source is None else f' from {source}'} ({named}): {way}, or leave them out by name with [features] "
            'missing = "drop".'
        )
    return problems
