"""One cell type under two spellings."""

from __future__ import annotations

import pandas as pd

from stateshift.errors import some
from stateshift.genes.spelling import alike


def spelling_problems(groups: pd.DataFrame) -> list[str]:
    """Spellings of one cell type that don't all serve one split.

    The model would be scored on a cell type that it knows, so this stops training.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    """
    problems = []
    for names, splits in _spellings(groups):
        if len(set().union(*splits.values())) > 1:
            roles = "; ".join(f"`{name}` ({_where(groups, name)}) is in {some(sorted(splits[name]))}" for name in names)
            problems.append(
                f"obs cell types {_and(names)} read like one cell type, in several splits: {roles}. Give them one name in "
                "obs, or names further apart where they are two."
            )
    return problems


def spelling_notes(groups: pd.DataFrame) -> list[str]:
    """Spellings of one cell type in one split: allowed, and served as two cell types."""
    return [
        f"Cell types {_and(names)} read like one and are taken for {len(names)}: give them one name in obs where they "
        "are the same."
        for names, splits in _spellings(groups)
        if len(set().union(*splits.values())) == 1
    ]


def _spellings(groups: pd.DataFrame) -> list[tuple[list[str], dict[str, set[str]]]]:
    """Cell types that read alike, and the splits that perturbed cells of each are in."""
    served = groups[groups["split"].isin(("train", "val", "test"))]
    splits = served.groupby("context")["split"].agg(set).to_dict()
    return [(names, {name: splits[name] for name in names}) for names in alike(splits)]


def _and(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _where(groups: pd.DataFrame, context: str) -> str:
    return some(groups.loc[groups["context"] == context, "file"].unique(), 2)
