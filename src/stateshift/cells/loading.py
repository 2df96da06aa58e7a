"""Files into memory: one gene axis, one scale, obs with our five columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment, read_experiment
from stateshift.cells.population import Cells
from stateshift.cells.scale import find_scale, to_log1p
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.feature_table import genes_of
from stateshift.progress import track

logger = logging.getLogger(__name__)


@dataclass
class CellFile:
    """One AnnData file as found: its parts that we read, and how they were understood."""

    path: Path
    obs: pd.DataFrame
    genes: list[str]
    uns: dict[str, Any]
    X: Any = None


def read_file(path: str | Path, with_matrix: bool = True) -> CellFile:
    """Read ``obs``, ``var_names``, scalar ``uns`` and ``X`` of an h5ad file.

    Raises
    ------
    StateshiftError
        The file is missing, truncated, no HDF5, no AnnData, or names genes twice.
    """
    import h5py
    from anndata.io import read_elem

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    try:
        with h5py.File(path, "r") as handle:
            missing = [part for part in ("obs", "var", "X") if part not in handle]
            if missing:
                raise StateshiftError(f"{path} is no AnnData file: it has no {', '.join(missing)}.")
            obs, var = read_elem(handle["obs"]), read_elem(handle["var"])
            uns = {k: read_elem(handle["uns"][k]) for k in ("log1p", "stateshift") if k in handle.get("uns", {})}
            X = read_elem(handle["X"]) if with_matrix else None
    except StateshiftError:
        raise
    except Exception as error:
        raise StateshiftError(
            f"{path} can't be read as an h5ad file (truncated, or not HDF5?): {str(error).splitlines()[0][:160]}"
        ) from error
    genes = [str(g) for g in var.index]
    if len(set(genes)) != len(genes):
        twice = pd.Index(genes)[pd.Index(genes).duplicated()].unique()
        raise StateshiftError(
            f"{path}: var_names hold {some(twice, 4)} more than once: run var_names_make_unique first."
        )
    return CellFile(path, obs, genes, uns, X)


def standard_obs(obs: pd.DataFrame, columns: Columns, dataset: str, file: str) -> pd.DataFrame:
    """Our five obs columns, all strings: dataset, file, context, perturbation, batch.

    Raises
    ------
    StateshiftError
        Cells without a value in a column that is needed.
    """
    for column in filter(None, (columns.cell_type, columns.perturbation, columns.batch)):
        _refuse_bad_labels(obs, column, file)
    return pd.DataFrame(
        {
            "dataset": dataset,
            "file": file,
            "context": obs[columns.cell_type].astype(str).to_numpy(),
            "perturbation": _perturbation_names(obs[columns.perturbation], columns.control),
            "batch": obs[columns.batch].astype(str).to_numpy() if columns.batch else "",
        },
        index=obs.index.astype(str),
    )


def _refuse_bad_labels(obs: pd.DataFrame, column: str, file: str) -> None:
    """No label, an empty one, or one with spaces around it would become a group of its own."""
    labels = obs[column]
    empty = labels.isna().to_numpy() | (labels.astype(str).str.strip() == "").to_numpy()
    if empty.any():
        raise StateshiftError(
            f"{file}: obs `{column}` is empty in {empty.sum():,} cells (first: {obs.index[empty][0]}): "
            "fill it in, or drop those cells."
        )
    spaced = sorted({str(v) for v in labels.unique() if str(v) != str(v).strip()})
    if spaced:
        raise StateshiftError(
            f"{file}: obs `{column}` holds labels with spaces around them ({some([repr(v) for v in spaced], 3)}): "
            f'strip them, adata.obs["{column}"] = adata.obs["{column}"].astype(str).str.strip().'
        )


def _perturbation_names(column: pd.Series, control: str) -> np.ndarray:
    """Names as strings; ``A+ctrl``, as some tools write a single, is ``A``."""
    names = column.astype(str)
    shorter = {}
    for name in names.unique():
        genes = [gene for gene in name.split("+") if gene != control]
        if genes and len(genes) < len(name.split("+")):
            shorter[name] = "+".join(genes)
    if shorter:
        logger.info("read %s", some([f"`{old}` as `{new}`" for old, new in shorter.items()], 3))
    return names.replace(shorter).to_numpy(dtype=object)


def read_cells(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    needs_control: bool = True,
    genes: list[str] | None = None,
) -> Cells:
    """One h5ad file as `Cells`, log1p.

    Parameters
    ----------
    path
        An h5ad file; ``X`` holds counts or log1p expression.
    columns
        As in the TOML's ``[columns]``; conventions fill what is absent.
    needs_control
        Whether control cells have to be there.
    genes
        The gene axis wanted; counts are normalised on it, so that the same cells get the same values
        whatever else was measured.

    Raises
    ------
    StateshiftError
        The file can't be used, or lacks genes that are wanted.
    """
    stored = read_file(path)
    found = find_columns(stored.obs, columns, str(path), needs_control)
    X, scale, origin = matrix_on_genes(stored, genes or stored.genes, (columns or {}).get("scale"))
    logger.info("%s: %s; scale %s", path, found, origin)
    obs = standard_obs(stored.obs, found, "", Path(path).name)
    simulated = bool(dict(stored.uns.get("stateshift", {})).get("simulated", False))
    return Cells(X, obs, genes or stored.genes, found.control, scale, simulated)


def load_cells(experiment: Experiment) -> Cells:
    """All files of an experiment on one gene axis, log1p.

    The first file's control names the control of all. Files with counts are brought to log1p of 1e4.

    Raises
    ------
    InputProblems
        All files' problems at once, genes and scales that differ between files included.
    """
    cells, problems = collect_cells(experiment)
    if problems or cells is None:
        raise InputProblems(str(experiment.path), problems or ["no dataset can be read."])
    return cells


def collect_cells(experiment: Experiment) -> tuple[Cells | None, list[str]]:
    """The cells of the files that can be read (None where there is none), and all problems."""
    problems: list[str] = []
    parts: list[csr_matrix] = []
    frames: list[pd.DataFrame] = []
    first: CellFile | None = None
    control, scales = "", {}
    files = [(name, path) for name, paths in experiment.datasets.items() for path in paths]
    names = [path.name for _, path in files]
    for dataset, path in track(files, "reading cells"):
        label = path.name if names.count(path.name) == 1 else str(path)
        try:
            stored = read_file(path)
            found = find_columns(stored.obs, experiment.columns, str(path))
            X, scale, origin = to_log1p(stored.X, stored.uns, experiment.columns.get("scale"), str(path))
            obs = standard_obs(stored.obs, found, dataset, label)
        except InputProblems as error:
            problems += [f"{label}: {p}" for p in error.problems]
            continue
        except StateshiftError as error:
            problems.append(str(error))
            continue
        logger.info("%s: %s; scale %s", label, found, origin)
        if first is None:
            first, control = stored, found.control
        elif stored.genes != first.genes:
            difference = _gene_difference(first, stored)
            if difference:
                problems.append(difference)
                continue
            X = X[:, pd.Index(stored.genes).get_indexer(first.genes)]
        obs.loc[obs["perturbation"] == found.control, "perturbation"] = control
        scales[scale] = label
        parts.append(X)
        frames.append(obs)
    if len(scales) > 1:
        problems.append(
            "files differ in scale: "
            + ", ".join(f"{file} is {scale}" for scale, file in scales.items())
            + "; declare [columns] scale where log1p means log1p_1e4, or normalise the files alike."
        )
    if first is None:
        return None, problems
    X = vstack(parts, format="csr") if len(parts) > 1 else parts[0]
    return Cells(X, pd.concat(frames), first.genes, control, next(iter(scales))), problems


def perturbed_genes(toml_path: str | Path, columns: Mapping[str, str] | None = None) -> list[str]:
    """Genes that any dataset of an experiment perturbs: doubles split, the control left out, sorted."""
    experiment = read_experiment(toml_path, columns)
    genes: set[str] = set()
    problems: list[str] = []
    for paths in experiment.datasets.values():
        for path in paths:
            try:
                stored = read_file(path, with_matrix=False)
                found = find_columns(stored.obs, experiment.columns, path.name)
                obs = standard_obs(stored.obs, found, "", path.name)
            except InputProblems as error:
                problems += [f"{path.name}: {p}" for p in error.problems]
                continue
            except StateshiftError as error:
                problems.append(str(error))
                continue
            names = set(obs["perturbation"].unique()) - {found.control}
            genes.update(g for name in names for g in genes_of(name))
    if problems:
        raise InputProblems(str(toml_path), problems)
    return sorted(genes)


def matrix_on_genes(stored: CellFile, genes: list[str], declared: str | None) -> tuple[csr_matrix, str, str]:
    """X of a file on a gene axis, log1p.

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
    index = pd.Index(stored.genes).get_indexer(genes)
    absent = [g for g, i in zip(genes, index) if i < 0]
    if absent:
        hint = suggestion(absent[0], stored.genes) if len(absent) == 1 else ""
        raise StateshiftError(
            f"{where} has {len(stored.genes):,} genes and lacks {len(absent):,} of the {len(genes):,} that are needed: "
            f"{some(absent)}{hint}. Genes are matched by var_names (symbols)."
        )
    X = csr_matrix(stored.X)
    found = find_scale(X, stored.uns, declared, where)
    if stored.genes != genes:
        X = X[:, index]
    X, scale, _ = to_log1p(X, stored.uns, found, where)
    return X, scale, found


def _gene_difference(first: CellFile, other: CellFile) -> str | None:
    absent, extra = sorted(set(first.genes) - set(other.genes)), sorted(set(other.genes) - set(first.genes))
    if not absent and not extra:
        return None
    said = []
    if absent:
        said.append(f"lacks {len(absent):,} genes of {first.path.name} ({some(absent, 4)})")
    if extra:
        said.append(f"has {len(extra):,} more ({some(extra, 4)})")
    return f"{other.path.name}: its genes differ: it {' and '.join(said)}; cut all files to the same genes."
