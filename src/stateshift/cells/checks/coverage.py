"""Which perturbations of each split have feature vectors."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from stateshift.errors import some
from stateshift.feature_table import FeatureTable


@dataclass(frozen=True)
class SplitCoverage:
    """Of one split: perturbations whose genes all have a vector, the others, and the genes they lack."""

    split: str
    covered: list[str]
    uncovered: list[str]
    missing_genes: list[str]


def coverage_by_split(groups: pd.DataFrame, table: FeatureTable) -> list[SplitCoverage]:
    """Coverage of the perturbations of train, val and test, those without cells left out.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    table
        The feature table.
    """
    found = []
    for split in ("train", "val", "test"):
        names = sorted(groups.loc[groups["split"] == split, "perturbation"].unique())
        lacking = [name for name in names if table.missing([name])]
        if names:
            covered = sorted(set(names) - set(lacking))
            found.append(SplitCoverage(split, covered, lacking, table.missing(lacking)))
    return found


def coverage_problems(coverage: list[SplitCoverage], policy: str) -> list[str]:
    """What training would refuse: perturbations without a vector, unless they are dropped by name."""
    if policy == "drop":
        return []
    return [
        f"{c.split}: {len(c.uncovered):,} of {len(c.covered) + len(c.uncovered):,} perturbations have no feature vector "
        f"({some(c.missing_genes, 20)}): make a table that holds them (create_esm_pert_features), or leave them out by "
        'name with [features] missing = "drop".'
        for c in coverage
        if c.uncovered
    ]
