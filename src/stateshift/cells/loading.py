"""Files into memory: one gene axis, one scale, obs with our five columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift.cells.columns import Columns, find_columns
from stateshift.cells.experiment import Experiment, read_experiment
from stateshift.cells.population import Cells
from stateshift.cells.scale import to_log1p
from stateshift.errors import InputProblems, StateshiftError, some
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
        empty = obs[column].isna().to_numpy()
        if empty.any():
            raise StateshiftError(
                f"{file}: obs `{column}` is empty in {empty.sum():,} cells (first: {obs.index[empty][0]}): "
                "fill it in, or drop those cells."
            )
    return pd.DataFrame(
        {
            "dataset": dataset,
            "file": file,
            "context": obs[columns.cell_type].astype(str).to_numpy(),
            "perturbation": obs[columns.perturbation].astype(str).to_numpy(),
            "batch": obs[columns.batch].astype(str).to_numpy() if columns.batch else "",
        },
        index=obs.index.astype(str),
    )


def read_cells(path: str | Path, columns: Mapping[str, str] | None = None, needs_control: bool = True) -> Cells:
    """One h5ad file as `Cells`, log1p.

    Parameters
    ----------
    path
        An h5ad file; ``X`` holds counts or log1p expression.
    columns
        As in the TOML's ``[columns]``; conventions fill what is absent.
    needs_control
        Whether control cells have to be there.
    """
    stored = read_file(path)
    found = find_columns(stored.obs, columns, str(path), needs_control)
    X, scale, origin = to_log1p(stored.X, stored.uns, (columns or {}).get("scale"), str(path))
    logger.info("%s: %s; scale %s", path, found, origin)
    return Cells(X, standard_obs(stored.obs, found, "", Path(path).name), stored.genes, found.control, scale)


def load_cells(experiment: Experiment) -> Cells:
    """All files of an experiment on one gene axis, log1p.

    The first file's control names the control of all. Files with counts are brought to log1p of 1e4.

    Raises
    ------
    InputProblems
        All files' problems at once, genes and scales that differ between files included.
    """
    problems: list[str] = []
    parts: list[csr_matrix] = []
    frames: list[pd.DataFrame] = []
    genes: list[str] | None = None
    first_path, control, scales = None, None, {}
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
            problems += [f"{path.name}: {p}" for p in error.problems]
            continue
        except StateshiftError as error:
            problems.append(str(error))
            continue
        logger.info("%s: %s; scale %s", path.name, found, origin)
        if genes is None:
            genes, first_path = stored.genes, path
        elif stored.genes != genes:
            difference = _gene_difference(genes, stored.genes, first_path, path)
            if difference:
                problems.append(difference)
                continue
            X = X[:, pd.Index(stored.genes).get_indexer(genes)]
        control = control or found.control
        obs.loc[obs["perturbation"] == found.control, "perturbation"] = control
        scales[scale] = path.name
        parts.append(X)
        frames.append(obs)
    if len(scales) > 1:
        problems.append(
            "files differ in scale: "
            + ", ".join(f"{file} is {scale}" for scale, file in scales.items())
            + "; declare [columns] scale where log1p means log1p_1e4, or normalise the files alike."
        )
    if problems:
        raise InputProblems(str(experiment.path), problems)
    return Cells(
        vstack(parts, format="csr") if len(parts) > 1 else parts[0],
        pd.concat(frames) if len(frames) > 1 else frames[0],
        genes or [],
        control or "",
        next(iter(scales)),
    )


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
            except InputProblems as error:
                problems += [f"{path.name}: {p}" for p in error.problems]
                continue
            names = {str(p) for p in stored.obs[found.perturbation].unique()} - {found.control}
            genes.update(g for name in names for g in genes_of(name))
    if problems:
        raise InputProblems(str(toml_path), problems)
    return sorted(genes)


def align_genes(cells: Cells, genes: list[str], where: str) -> Cells:
    """The cells on another gene axis.

    Raises
    ------
    StateshiftError
        Genes of the axis are absent from the cells; the first few are named.
    """
    if cells.genes == genes:
        return cells
    index = pd.Index(cells.genes).get_indexer(genes)
    if (index < 0).any():
        absent = [g for g, i in zip(genes, index) if i < 0]
        raise StateshiftError(
            f"{where} has {len(cells.genes):,} genes and lacks {len(absent):,} of the {len(genes):,} that are "
            f"needed: {some(absent)}. Give cells with every gene of genes.txt."
        )
    return Cells(cells.X[:, index], cells.obs, list(genes), cells.control, cells.scale)


def _gene_difference(genes: list[str], others: list[str], first: Path | None, path: Path) -> str | None:
    absent, extra = sorted(set(genes) - set(others)), sorted(set(others) - set(genes))
    if not absent and not extra:
        return None
    said = []
    if absent:
        said.append(f"lacks {len(absent):,} genes of {first.name if first else 'the first'} ({some(absent, 4)})")
    if extra:
        said.append(f"has {len(extra):,} more ({some(extra, 4)})")
    return f"{path.name}: its genes differ: it {' and '.join(said)}; cut all files to the same genes."
