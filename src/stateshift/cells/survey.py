"""What the files of an experiment hold, before any matrix is read: labels, genes, where the values lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment
from stateshift.cells.labels import standard_obs
from stateshift.cells.matrix.cache import file_stamp
from stateshift.cells.matrix.stored import opened, read_uns, refuse_repeats, stored_matrix
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.population import Cells
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.genes import read_names
from stateshift.progress import track

logger = logging.getLogger(__name__)

NAME_THEM = (
    'list its genes in uns["stateshift"]["embedding_genes"], as `stateshift data prepare` does, or mark those of X_hvg in '
    'var["highly_variable"]'
)


@dataclass
class FoundFile:
    """One AnnData file: its labels, its genes, and the matrix that would be read.

    Parameters
    ----------
    path
        The h5ad file or zarr store.
    name
        How it is called in errors and in ``obs["file"]``.
    columns
        Its obs columns and control.
    obs
        Five columns, as `Cells` has them.
    genes
        Names of the matrix's columns.
    embedding
        The ``obsm`` key that is read; None for ``X``.
    is_expression
        Whether the columns are genes; else they are the dimensions of an embedding.
    kind, n_values, loaded_bytes
        Of the matrix: ``dense``, ``csr`` or ``csc``; values stored; bytes once loaded.
    uns
        The entries that tell a scale: what is said of ``X`` isn't said of an ``obsm`` array that it doesn't list.
    stamp
        Of the file, when its labels were read.
    """

    path: Path
    name: str
    columns: Columns
    obs: pd.DataFrame
    genes: list[str]
    embedding: str | None
    is_expression: bool
    kind: str
    n_values: int
    loaded_bytes: int
    uns: dict[str, Any]
    stamp: list


@dataclass
class Survey:
    """All files of an experiment that can be read, on one gene axis.

    Parameters
    ----------
    files
        In the order of the TOML.
    genes
        The gene axis: what a list names, else what all files measure, in the first file's order.
    control
        The first file's control, which names that of all.
    problems
        What is wrong, a sentence each.
    notes
        What is allowed and worth knowing.
    every_gene
        ``X`` of the same files, where an ``obsm`` array with a part of its genes or an embedding is read
        (`stateshift.cells.every_gene.survey_every_gene`); else None.
    """

    files: list[FoundFile]
    genes: list[str]
    control: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    every_gene: Survey | None = None

    @property
    def loaded_bytes(self) -> int:
        """Bytes of all matrices once loaded; genes that are left out still count."""
        return sum(f.loaded_bytes for f in self.files)

    def labels(self) -> Cells | None:
        """The cells without their matrix; None where no file can be read."""
        if not self.files:
            return None
        simulated = all(bool(dict(f.uns.get("stateshift", {})).get("simulated", False)) for f in self.files)
        return Cells(None, pd.concat([f.obs for f in self.files]), self.genes, self.control, "", simulated)


def survey_files(experiment: Experiment) -> Survey:
    """Read the labels and genes of an experiment's files; problems are gathered, not raised."""
    found, problems = [], []
    files = [(name, path) for name, paths in experiment.datasets.items() for path in paths]
    names, paths = [path.name for _, path in files], [path for _, path in files]
    for dataset, path in track(files, "reading labels"):
        name = path.name if names.count(path.name) == 1 else str(path)
        if paths.count(path) > 1:
            name = f"{dataset}: {name}"
        try:
            found.append(find_file(path, dataset, name, experiment.columns))
        except InputProblems as error:
            problems += [f"{name}: {p}" for p in error.problems]
        except StateshiftError as error:
            problems.append(str(error))
    survey = Survey(found, [], found[0].columns.control if found else "", problems)
    if found:
        for file in found:
            file.obs.loc[file.obs["perturbation"] == file.columns.control, "perturbation"] = survey.control
        survey.genes = gene_axis(experiment, survey)
    return survey


def find_file(
    path: Path,
    dataset: str,
    name: str,
    declared: Mapping[str, str],
    needs_control: bool = True,
    array_genes: list[str] | None = None,
) -> FoundFile:
    """Labels, genes and the whereabouts of the matrix of one file.

    Parameters
    ----------
    path, dataset, name
        The file, and what it goes by.
    declared
        As ``[columns]``.
    needs_control
        Whether control cells have to be there.
    array_genes
        The genes of the ``obsm`` array's columns where the file names none, as many as it has columns.
    """
    key, path = declared.get("embedding"), Path(path)
    stamp = file_stamp(path) if path.exists() else []
    with opened(path) as group:
        obs, var = read_table(group, "obs"), read_table(group, "var")
        uns = read_uns(group, path)
        matrix = stored_matrix(group, path, key)
        genes = [str(g) for g in var.index]
        if key is None and len(genes) != matrix.shape[1]:
            raise StateshiftError(f"{path}: X has {matrix.shape[1]:,} columns, and var has {len(genes):,} rows.")
    is_expression = True
    if key is not None:
        genes, is_expression = _array_columns(key, matrix.shape[1], var, uns, str(path))
        if not is_expression and array_genes is not None and len(array_genes) == matrix.shape[1]:
            genes, is_expression = array_genes, True
        if key == "X_hvg" and not is_expression and declared.get("scale") is not None:
            raise StateshiftError(
                f"{path}: a scale is declared, and obsm `{key}` names no genes, so that it is no expression: {NAME_THEM}."
            )
        about = dict(uns.get("stateshift", {}))
        if "scale" in about and key not in dict(about.get("embedding_genes", {})):
            uns["stateshift"] = {name: value for name, value in about.items() if name != "scale"}
    refuse_repeats(genes, str(path))
    columns = find_columns(obs, declared, str(path), needs_control)
    labels = standard_obs(obs, columns, dataset, name)
    return FoundFile(
        path, name, columns, labels, genes, key, is_expression,
        matrix.kind, matrix.n_values, matrix.loaded_bytes, uns, stamp,
    )  # fmt: skip


def _array_columns(
    key: str, width: int, var: pd.DataFrame, uns: Mapping[str, Any], where: str
) -> tuple[list[str], bool]:
    """Names of an obsm array's columns, and whether they are genes.

    Genes are those that ``uns["stateshift"]["embedding_genes"]`` lists, or the highly variable ones in the
    order of ``var`` where ``var["highly_variable"]`` marks as many as the array has columns.
    """
    listed = dict(dict(uns.get("stateshift", {})).get("embedding_genes", {})).get(key)
    if listed is not None and len(listed) != width:
        raise StateshiftError(
            f'{where}: uns["stateshift"]["embedding_genes"] names {len(listed):,} genes of obsm `{key}`, which has {width:,} '
            "columns."
        )
    if listed is not None:
        return [str(g) for g in listed], True
    if key == "X_hvg" and "highly_variable" in var:
        marked = var.index[var["highly_variable"].to_numpy(dtype=bool)]
        if len(marked) == width:
            return [str(g) for g in marked], True
    return [f"{key}_{i}" for i in range(width)], False


def gene_axis(experiment: Experiment, survey: Survey) -> list[str]:
    """The genes of a list, else those that all files measure; differences are noted or, with none left, a problem."""
    files, first = survey.files, survey.files[0]
    if len({f.is_expression for f in files}) > 1 or (
        not first.is_expression and any(f.genes != first.genes for f in files)
    ):
        survey.problems.append(
            f"files differ in `{first.embedding}`: "
            + ", ".join(f"{f.name} has {len(f.genes):,} {'genes' if f.is_expression else 'dimensions'}" for f in files)
            + "; compute it for all files alike."
        )
        return first.genes
    if not first.is_expression:
        return first.genes
    if "genes" in experiment.columns:
        return _listed_genes(experiment, survey)
    shared = set(first.genes).intersection(*(f.genes for f in files[1:]))
    if not shared:
        survey.problems.append(
            "the files share no gene: "
            + "; ".join(f"{f.name} has {some(f.genes, 3)}" for f in files)
            + ". Genes are matched by var_names: name them alike (symbols)."
        )
        return first.genes
    left_out = [
        f"{f.name} leaves out {len(f.genes) - len(shared):,} of its {len(f.genes):,} genes "
        f"({some([g for g in f.genes if g not in shared], 4)})"
        for f in files
        if len(f.genes) > len(shared)
    ]
    if left_out and first.embedding is not None:
        survey.problems.append(
            f"the files hold other genes in obsm `{first.embedding}`, {len(shared):,} in common: {'; '.join(left_out)}. "
            "Choose them over all files together, or name those to use in a file, [columns] genes."
        )
    elif left_out:
        survey.notes.append(
            f"The files measure different genes; the {len(shared):,} that all share are used: {'; '.join(left_out)}. "
            "[columns] genes = a file of names chooses them."
        )
    return [g for g in first.genes if g in shared]


def _listed_genes(experiment: Experiment, survey: Survey) -> list[str]:
    """The genes of ``[columns] genes``; of an ``obsm`` array those that it holds, as ``X`` gives the others."""
    path = experiment.resolve(experiment.columns["genes"])
    try:
        genes = list(dict.fromkeys(read_names(path)[1]))
    except StateshiftError as error:
        survey.problems.append(f"[columns] genes: {error}")
        return survey.files[0].genes
    if survey.files[0].embedding is not None:
        held = set(survey.files[0].genes).intersection(*(f.genes for f in survey.files))
        if not held & set(genes):
            survey.problems.append(
                f"[columns] genes: obsm `{survey.files[0].embedding}` holds none of those listed in {path.name}."
            )
            return survey.files[0].genes
        return [g for g in genes if g in held]
    for file in survey.files:
        measured = set(file.genes)
        absent = [g for g in genes if g not in measured]
        if absent:
            hint = suggestion(absent[0], file.genes) if len(absent) == 1 else ""
            survey.problems.append(
                f"[columns] genes: {file.name} measures {len(file.genes):,} genes and lacks {len(absent):,} of the "
                f"{len(genes):,} listed in {path.name}: {some(absent)}{hint}."
            )
    survey.notes.append(f"The {len(genes):,} genes of {path.name} are used, in its order.")
    return genes


def gene_index(file: FoundFile, genes: list[str]) -> np.ndarray | None:
    """Column of each gene in a file; None where they are the file's own in its order."""
    return None if file.genes == genes else gene_places(file.genes, genes, str(file.path))


def gene_places(measured: list[str], genes: list[str], where: str) -> np.ndarray:
    """Place of each gene among those measured; a StateshiftError that names the first that are absent."""
    index = pd.Index(measured).get_indexer(genes)
    absent = [g for g, i in zip(genes, index) if i < 0]
    if absent:
        hint = suggestion(absent[0], measured) if len(absent) == 1 else ""
        if len(absent) == len(genes):
            hint = ", which a var column may hold: adata.var_names = adata.var[…]"
        raise StateshiftError(
            f"{where} has {len(measured):,} genes and lacks {len(absent):,} of the {len(genes):,} that are needed: "
            f"{some(absent)}{hint}. Genes are matched by var_names."
        )
    return index
