"""Gene names that read well and are wrong: versions, copies, ids against symbols, genes not measured."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from stateshift.cells.matrix.stored import opened
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.population import Cells
from stateshift.cells.prepare.gene_names import symbol_columns
from stateshift.cells.survey import FoundFile, Survey
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import genes_of
from stateshift.genes.names import ENSEMBL, unversioned

COPY = re.compile(r"(.+)[-.]\d+$")
STRIP = r'adata.var_names = adata.var_names.str.replace(r"\.\d+$", "", regex=True)'


def name_problems(survey: Survey, cells: Cells) -> list[str]:
    """Perturbations that name no genes, and ids whose versions differ between files: genes would be left out."""
    problems = []
    for name in perturbations(cells):
        try:
            genes_of(name)
        except StateshiftError as error:
            problems.append(f"obs: {error}")
    return problems + _versions_that_differ(survey)


def name_notes(survey: Survey, cells: Cells) -> list[str]:
    """Versioned ids, copies made unique, ids against symbols, and perturbed genes that the matrix doesn't hold.

    None of them keeps a model from training; each decides what its predictions can be joined with.
    """
    if not survey.files[0].is_expression:
        return []
    notes = []
    versioned = [g for g in cells.genes if ENSEMBL.match(g) and "." in g]
    if versioned:
        notes.append(f"{len(versioned):,} var_names carry versions ({some(versioned, 3)}): strip them, {STRIP}.")
    measured = set(cells.genes)
    # IGHV1-69-2 is no copy of IGHV1-69, which is numbered itself
    copies = [g for g in cells.genes if (made := COPY.match(g)) and made[1] in measured and not COPY.match(made[1])]
    if copies:
        notes.append(
            f"{len(copies):,} var_names look like copies made unique ({some(copies, 4)} beside {COPY.match(copies[0])[1]}): "
            "they are taken for genes of their own; sum or drop them where they are not."
        )
    perturbed = _genes(cells)
    clash = _ids_against_symbols(survey.files, cells.genes, perturbed)
    absent = [g for g in perturbed if g not in measured]
    if absent and not clash:
        numbers = "; var_names are numbers: name the genes" if all(g.isdecimal() for g in measured) else ""
        notes.append(
            f"{len(absent):,} of {len(perturbed):,} perturbed genes are not measured, no var_name is theirs: "
            f"{some(absent)}{numbers}."
        )
    return notes + clash


def perturbations(cells: Cells) -> list[str]:
    """Names of all perturbations but the control, sorted."""
    return sorted(set(cells.obs["perturbation"].unique()) - {cells.control})


def _genes(cells: Cells) -> list[str]:
    return sorted({gene for name in perturbations(cells) for gene in name.split("+")})


def _versions_that_differ(survey: Survey) -> list[str]:
    """A problem where files would share more genes if their Ensembl ids had no versions."""
    if len(survey.files) < 2 or not all(f.is_expression for f in survey.files):
        return []
    bare = [{unversioned(g) for g in f.genes} for f in survey.files]
    shared = set(survey.files[0].genes).intersection(*(f.genes for f in survey.files[1:]))
    lost = sorted(set.intersection(*bare) - {unversioned(g) for g in shared})
    if not lost:
        return []
    spellings = [next(g for g in f.genes if unversioned(g) == lost[0]) for f in survey.files]
    told = ", ".join(f"{name} in {f.name}" for name, f in zip(spellings, survey.files))
    return [
        f"{len(lost):,} genes carry versions in var_names that differ between the files, which would leave them out "
        f"({told}): strip them, {STRIP}."
    ]


def _ids_against_symbols(files: list[FoundFile], genes: list[str], perturbed: list[str]) -> list[str]:
    """A note where most genes go by Ensembl ids and most perturbations don't, or the reverse."""
    genes_are_ids, perturbed_are_ids = _mostly_ids(genes), _mostly_ids(perturbed)
    if genes_are_ids == perturbed_are_ids or not perturbed:
        return []
    kinds = ("Ensembl ids", "symbols")
    have, want = kinds if genes_are_ids else kinds[::-1]
    columns = {f.name: _other_column(f, genes_are_ids) for f in files}
    found = [f"`{column}` of {name}" for name, column in columns.items() if column]
    way_out = (
        f"the {want} are in var column {some(found, 3)}: adata.var_names = adata.var[…], or "
        "stateshift data prepare --gene-column"
        if found
        else f"no var column looks like {want}"
    )
    return [
        f"var_names are {have} ({some(genes, 2)}), and perturbations are not ({some(perturbed, 2)}): neither knock-down nor "
        f"predictions can be joined by name; {way_out}."
    ]


def _mostly_ids(names: list[str]) -> bool:
    return sum(bool(ENSEMBL.match(n)) for n in names) > len(names) / 2


def _other_column(file: FoundFile, symbols: bool) -> str | None:
    """The var column of a file that looks like symbols, or like Ensembl ids."""
    with opened(file.path) as group:
        var = read_table(group, "var")
    columns = symbol_columns(var) if symbols else _id_columns(var)
    return next(iter(columns), None)


def _id_columns(var: pd.DataFrame) -> Iterable[str]:
    texts = [c for c in var if not pd.api.types.is_numeric_dtype(var[c])]
    return (str(c) for c in texts if _mostly_ids([str(v) for v in var[c].head(1000)]))
