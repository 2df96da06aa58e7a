"""Files into matrices that training reads: one gene axis, one scale, in memory or from a cache on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells.every_gene import other_values, scale_of_X, survey_every_gene
from stateshift.cells.experiment import Experiment, read_experiment
from stateshift.cells.matrix.cache import cached_part, default_cache, file_stamp
from stateshift.cells.matrix.expression import DiskPart, Expression, Part
from stateshift.cells.matrix.filling import Wanted, fill_arrays, in_memory
from stateshift.cells.matrix.scale import BROUGHT, find_scale, to_log1p
from stateshift.cells.matrix.stored import opened, read_uns, refuse_repeats, stored_matrix, whole_matrix
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.population import Cells
from stateshift.cells.survey import FoundFile, Survey, find_file, gene_index, gene_places, survey_files
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import genes_of
from stateshift.progress import track

logger = logging.getLogger(__name__)

GIGABYTE = 1_000_000_000
VALUES_A_PASS = 100_000_000
"""Of a CSC matrix on its way to the cache: 0.8 GB of arrays that are written to at a time."""


@dataclass(frozen=True)
class Storage:
    """Where matrices are kept while they are used.

    Parameters
    ----------
    memory_gb
        Matrices of an experiment that are larger together stay on disk, in the cache.
    cache
        The cache's folder; None for the user's (`default_cache`).
    """

    memory_gb: float = 8.0
    cache: Path | None = None


IN_MEMORY = Storage()


@dataclass
class CellFile:
    """One AnnData file in memory: its parts that we read."""

    path: Path
    obs: pd.DataFrame
    genes: list[str]
    uns: dict[str, Any]
    X: Any = None


def read_file(path: str | Path, with_matrix: bool = True) -> CellFile:
    """Read ``obs``, ``var_names``, scalar ``uns`` and ``X`` of an h5ad file or zarr store.

    Raises
    ------
    StateshiftError
        The file is missing, truncated, no AnnData, or names genes twice.
    """
    path = Path(path)
    with opened(path) as group:
        stored_matrix(group, path)
        obs, var = read_table(group, "obs"), read_table(group, "var")
        uns = read_uns(group, path)
        X = whole_matrix(group["X"], str(path)) if with_matrix else None
    genes = [str(g) for g in var.index]
    refuse_repeats(genes, str(path))
    return CellFile(path, obs, genes, uns, X)


def read_cells(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    needs_control: bool = True,
    genes: list[str] | None = None,
    storage: Storage = IN_MEMORY,
    array_genes: list[str] | None = None,
) -> Cells:
    """One file as `Cells`, log1p.

    Parameters
    ----------
    path
        An h5ad file or zarr store; ``X``, or the ``obsm`` array that ``columns["embedding"]`` names,
        holds counts or log1p expression.
    columns
        As in the TOML's ``[columns]``; conventions fill what is absent.
    needs_control
        Whether control cells have to be there.
    genes
        The gene axis wanted; counts are normalised on it, so that the same counts get the same values
        whatever else was measured. What comes as log1p keeps its values.
    storage
        Where the matrix is kept.
    array_genes
        The genes of the ``obsm`` array's columns, for a file that names none.

    Raises
    ------
    StateshiftError
        The file can't be used, or lacks genes that are wanted.
    """
    declared = {k: v for k, v in (columns or {}).items() if v is not None}
    file = find_file(Path(path), "", Path(path).name, declared, needs_control, array_genes)
    survey = Survey([file], list(genes or file.genes), file.columns.control)
    cells, problems = load_survey(survey, declared.get("scale"), storage)
    if problems:
        raise StateshiftError(problems[0])
    return cells


def load_cells(experiment: Experiment, storage: Storage = IN_MEMORY) -> Cells:
    """All files of an experiment on one gene axis, log1p; of an ``obsm`` array, every gene of ``X`` beside it.

    The first file's control names the control of all. Files with counts are brought to log1p of 1e4.

    Raises
    ------
    InputProblems
        All files' problems at once, scales that differ between files included.
    """
    survey = survey_files(experiment)
    survey.every_gene = survey_every_gene(experiment, survey)
    problems = survey.problems
    if survey.files and not problems:
        cells, problems = load_survey(survey, experiment.columns.get("scale"), storage)
    if problems or not survey.files:
        raise InputProblems(str(experiment.path), problems or ["no dataset can be read."])
    return cells


def load_survey(survey: Survey, scale: str | None, storage: Storage) -> tuple[Cells | None, list[str]]:
    """The cells of files that were surveyed, and what is wrong with their values.

    Every gene beside an ``obsm`` array stays in memory where the array leaves room for it.

    Parameters
    ----------
    survey
        With at least one file.
    scale
        As declared in ``[columns]``.
    storage
        Where the matrices are kept.
    """
    cells, problems = _load_matrices(survey, scale, storage)
    if cells is None or survey.every_gene is None:
        return cells, problems
    left = replace(storage, memory_gb=max(0.0, storage.memory_gb - survey.loaded_bytes / GIGABYTE))
    first = survey.files[0]
    of_X = scale_of_X(first.path, scale) if first.is_expression else scale
    cells.every_gene, problems = _load_matrices(survey.every_gene, of_X, left)
    problems = problems or other_values(survey, cells)
    return None if problems else cells, problems


def _load_matrices(survey: Survey, scale: str | None, storage: Storage) -> tuple[Cells | None, list[str]]:
    on_disk = survey.loaded_bytes > storage.memory_gb * GIGABYTE
    cache = storage.cache or default_cache()
    if on_disk:
        logger.info(
            "cells: %.1f GB, more than the %g GB allowed in memory: read from %s",
            survey.loaded_bytes / GIGABYTE, storage.memory_gb, cache,
        )  # fmt: skip
    parts, found_on, problems = [], {}, []
    for file in track(survey.files, "reading cells"):
        try:
            wanted = Wanted(gene_index(file, survey.genes), file.is_expression, scale)
            part, now, found = (
                _on_disk(file, wanted, survey.genes, cache) if on_disk else _in_memory(file, wanted, survey.genes)
            )
        except StateshiftError as error:
            problems.append(str(error))
            continue
        logger.info("%s: %s; scale %s", file.name, file.columns, found)
        parts.append(part)
        found_on[file.name], scale_now = found, now
    problems += scales_that_differ(survey, found_on)
    if problems:
        return None, problems
    cells = survey.labels()
    cells.X, cells.scale = Expression(parts), scale_now
    return cells, []


def scales_that_differ(survey: Survey, found: Mapping[str, str]) -> list[str]:
    """Problems between files, by the scale that each was found on (file's name → scale).

    Counts become log1p_1e4 over the genes that are used, while a file that comes as log1p_1e4 was normalised over
    all its own: with genes left out, the two are no longer one scale.
    """
    after = {("log1p_1e4" if scale in BROUGHT else scale): name for name, scale in found.items()}
    if len(after) > 1:
        return [
            "files differ in scale: "
            + ", ".join(f"{file} is {scale}" for scale, file in after.items())
            + '; declare [columns] scale = "to_1e4" to have all brought to 10,000 a cell, or "log1p_1e4" where they are on it.'
        ]
    cut = [f.name for f in survey.files if found.get(f.name) == "log1p_1e4" and len(f.genes) > len(survey.genes)]
    counts = [name for name, scale in found.items() if scale == "counts"]
    if cut and counts:
        return [
            f"{some(counts, 3)} would be brought to 1e4 over the {len(survey.genes):,} genes used, and {some(cut, 3)} was over "
            "all its own, some of which are left out: normalise the files alike first (stateshift data prepare)."
        ]
    return []


def _refuse_changed(file: FoundFile) -> None:
    if file_stamp(file.path) != file.stamp:
        raise StateshiftError(f"{file.path} changed while it was read: run again when it is complete.")


def _in_memory(file: FoundFile, wanted: Wanted, genes: list[str]) -> tuple[Part, str, str]:
    with opened(file.path) as group:
        stored = stored_matrix(group, file.path, file.embedding)
        arrays, now, found = fill_arrays(stored, wanted, file.uns, in_memory)
    _refuse_changed(file)
    return Part((stored.shape[0], len(genes)), **arrays), now, found


def _on_disk(file: FoundFile, wanted: Wanted, genes: list[str], cache: Path) -> tuple[DiskPart, str, str]:
    def build(allocate: Any, after_block: Any) -> tuple[dict, dict]:
        with opened(file.path) as group:
            stored = stored_matrix(group, file.path, file.embedding)
            arrays, now, found = fill_arrays(stored, wanted, file.uns, allocate, after_block, VALUES_A_PASS)
        return arrays, {"scale": now, "found": found, "n_genes": len(genes)}

    key = {"embedding": file.embedding, "genes": genes, "scale": wanted.scale, "is_expression": file.is_expression}
    part, facts = cached_part(cache, file.path, key, build, file.loaded_bytes)
    _refuse_changed(file)
    return part, facts["scale"], facts["found"]


def perturbed_genes(toml_path: str | Path, columns: Mapping[str, str] | None = None) -> list[str]:
    """Genes that any dataset of an experiment perturbs: doubles split, the control left out, sorted."""
    survey = survey_files(read_experiment(toml_path, columns))
    if survey.problems:
        raise InputProblems(str(toml_path), survey.problems)
    names = {p for f in survey.files for p in f.obs["perturbation"].unique()} - {survey.control}
    return sorted({g for name in names for g in genes_of(name)})


def matrix_on_genes(stored: CellFile, genes: list[str], declared: str | None) -> tuple[csr_matrix, str, str]:
    """X of a file in memory on a gene axis, log1p.

    The scale is found on all genes of the file; counts are normalised on those that are wanted, so that the
    same cells get the same values whatever else was measured.

    Returns
    -------
    tuple
        CSR float32 (n, G), its scale, and the scale it was found on.

    Raises
    ------
    StateshiftError
        Genes of the axis are absent; the first few are named.
    """
    where = str(stored.path)
    index = gene_places(stored.genes, genes, where)
    X = csr_matrix(stored.X)
    found = find_scale(X, stored.uns, declared, where)
    if stored.genes != genes:
        X = X[:, index]
    X, scale, _ = to_log1p(X, stored.uns, found, where)
    return X, scale, found
