"""One gene under two names: old and new symbols, Ensembl ids, spellings."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from stateshift.errors import some
from stateshift.genes import GeneNames
from stateshift.genes.spelling import alike, folded

TABLE = "hgnc"
"""The catalogue's entry of human gene symbols; a table that is not on disk is not fetched."""


def names_here() -> GeneNames:
    """Names of human genes, with HGNC's table where it was fetched (``stateshift data get hgnc``)."""
    from stateshift.catalogue import entry, get, is_here

    return GeneNames.from_hgnc(get(TABLE)[0]) if is_here(entry(TABLE)) else GeneNames()


def alias_problems(groups: pd.DataFrame, names: GeneNames) -> list[str]:
    """Genes that train under one name and are held out under another: they would be scored as unseen.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    names
        What tells that two names are one gene.
    """
    sides = _sides(groups)
    problems = []
    for group in alike(sorted(sides), names.key):
        if len(set().union(*(sides[name] for name in group))) > 1:
            roles = "; ".join(f"`{name}` is in {some(sorted(sides[name]))}" for name in group)
            problems.append(
                f"perturbations {_and(group)} name one gene{_because(group, names)}, in several splits: {roles}. "
                "Give the gene one name in obs."
            )
    return problems


def alias_notes(groups: pd.DataFrame, names: GeneNames) -> list[str]:
    """Genes under two names within a split, and whether aliases could be looked up at all."""
    sides = _sides(groups)
    notes = [
        f"Perturbations {_and(group)} name one gene{_because(group, names)} and are taken for {len(group)}: "
        "give it one name in obs."
        for group in alike(sorted(sides), names.key)
        if len(set().union(*(sides[name] for name in group))) == 1
    ]
    held_out = any(splits & {"val", "test"} for splits in sides.values())
    if held_out and not names.has_table:
        notes.append(
            "Old and new symbols of one gene were not looked for, only spellings: HGNC's table is not here "
            "(stateshift data get hgnc)."
        )
    return notes


def renamed_between(files: Iterable[tuple[str, list[str]]], shared: Iterable[str], names: GeneNames) -> list[str]:
    """Genes that files (name, genes) measure under different names, and that no shared axis holds therefore."""
    shared, seen = set(shared), {}
    for file, genes in files:
        for gene in genes:
            if gene not in shared:
                seen.setdefault(names.key(gene), {}).setdefault(gene, file)
    pairs = [
        " and ".join(f"{gene} ({file})" for gene, file in by_gene.items())
        for by_gene in seen.values()
        if len(set(by_gene.values())) > 1
    ]
    if not pairs:
        return []
    return [
        f"{len(pairs):,} genes that the files name differently are left out: {some(pairs, 4)}. "
        "Name them alike in var_names."
    ]


def _and(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _because(group: list[str], names: GeneNames) -> str:
    spelt = len({folded(n) for n in group}) == 1
    return " (in two spellings)" if spelt else " (HGNC)" if names.has_table else ""


def _sides(groups: pd.DataFrame) -> dict[str, set[str]]:
    """Perturbed gene → the splits that its cells are in, doubles split."""
    sides: dict[str, set[str]] = {}
    served = groups[groups["split"].isin(("train", "val", "test"))]
    for perturbation, split in served[["perturbation", "split"]].drop_duplicates().itertuples(index=False):
        for gene in perturbation.split("+"):
            sides.setdefault(gene, set()).add(split)
    return sides
