"""Raw counts as found in a file: proven to be counts, their cells' labels, what else the file holds."""

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
from stateshift.cells.labels import standard_obs
from stateshift.cells.matrix.scale import ValueFacts, csr_row_sums
from stateshift.cells.matrix.stored import StoredMatrix, opened, stored_matrix, whole_matrix
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.prepare.gene_names import name_genes
from stateshift.cells.prepare.guides import genes_of_guides
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.progress import track

logger = logging.getLogger(__name__)

LEFT_BEHIND = ("layers", "obsp", "varm", "varp", "raw")
VALUES_LOOKED_AT = 10_000
FLAGS = {
    "perturbation": "--pert-col",
    "cell_type": "--cell-type-key",
    "batch": "--batch-col",
    "control": "--control-pert",
}


@dataclass
class RawCells:
    """A raw file without its matrix.

    Parameters
    ----------
    path, layer
        Where the counts lie; ``layer`` is None for ``X``.
    obs, var
        As stored; ``var`` has one row a stored gene.
    columns
        The obs columns that were found.
    labels
        `standard_obs` of the cells.
    genes
        Name of every stored gene (G stored); repeated names are to be summed.
    uns, obsm
        Kept as they are.
    left_behind
        Names of what is not carried over.
    """

    path: Path
    layer: str | None
    obs: pd.DataFrame
    var: pd.DataFrame
    columns: Columns
    labels: pd.DataFrame
    genes: np.ndarray
    uns: dict[str, Any]
    obsm: dict[str, Any]
    left_behind: list[str]

    @property
    def gene_names(self) -> np.ndarray:
        """Names of the genes once those of one name are summed (G,)."""
        return pd.unique(self.genes)


def read_tables(
    path: str | Path,
    *,
    layer: str | None,
    gene_column: str | None,
    columns: Mapping[str, str] | None,
    guide_separator: str | None = None,
) -> RawCells:
    """Everything of a raw file but its matrix; guides become genes where a separator is given.

    Raises
    ------
    StateshiftError
        The file can't be read.
    InputProblems
        Columns, labels, genes and the layer: all problems at once.
    """
    from anndata.io import read_elem

    path, problems = Path(path), []
    with opened(path) as group:
        obs, var = read_table(group, "obs"), read_table(group, "var")
        layers = list(group["layers"]) if "layers" in group else []
        uns = read_elem(group["uns"]) if "uns" in group else {}
        obsm = {key: read_elem(group["obsm"][key]) for key in group.get("obsm", {})}
        left_behind = [part for part in LEFT_BEHIND if part in group and (part == "raw" or len(group[part]))]
    if layer is not None and layer not in layers:
        problems.append(f"there is no layer `{layer}`{suggestion(layer, layers)}.")
    genes, wrong = name_genes(var, gene_column)
    problems += wrong
    found, labels = None, pd.DataFrame()
    try:
        if guide_separator is not None:
            obs = _guides_as_genes(obs, guide_separator, columns, path)
        found = find_columns(obs, columns, str(path))
        labels = standard_obs(obs, found, "", path.name)
    except InputProblems as error:
        problems += [_with_flags(p) for p in error.problems]
    except StateshiftError as error:
        problems.append(str(error))
    if problems or found is None:
        raise InputProblems(str(path), problems)
    return RawCells(path, layer, obs, var, found, labels, genes, uns, obsm, left_behind)


def read_counts(raw: RawCells, scale: str | None) -> csr_matrix:
    """The counts, with genes of one name summed.

    Returns
    -------
    csr_matrix
        (n, G) float32, columns in the order in which their names first occur.

    Raises
    ------
    StateshiftError
        The matrix is not proven to hold counts; says which other matrix of the file does.
    """
    # what uns says of a scale is said of X
    uns = raw.uns if raw.layer is None else {}
    with opened(raw.path) as group:
        stored = _stored(group, raw)
        X, facts = _load(stored)
        try:
            found = facts.scale(uns, scale, str(raw.path))
        except StateshiftError as error:
            raise StateshiftError(f"{error} {_elsewhere(group, raw)}") from error
        if found != "counts":
            raise StateshiftError(
                f"{stored.where} is {found}, and raw counts are needed: what is normalised already can't be "
                f"prepared again. {_elsewhere(group, raw)}"
            )
    return summed_by_name(X, raw.genes)


def summed_by_name(X: csr_matrix, genes: np.ndarray) -> csr_matrix:
    """Counts with the columns of one name summed, in the order in which names first occur.

    Examples
    --------
    >>> X = csr_matrix([[1.0, 2.0, 4.0], [0.0, 8.0, 0.0]])
    >>> summed_by_name(X, np.array(["B", "A", "B"])).toarray()
    array([[5., 2.],
           [0., 8.]])
    """
    codes, names = pd.factorize(genes)
    if len(names) < len(genes):
        X = csr_matrix((X.data, codes.astype(X.indices.dtype)[X.indices], X.indptr), (X.shape[0], len(names)))
        X.sum_duplicates()
    return X


def _guides_as_genes(obs: pd.DataFrame, separator: str, columns: Mapping[str, str] | None, path: Path) -> pd.DataFrame:
    """The obs with genes in the perturbation's column, and the guides in one of their own."""
    column = find_columns(obs, columns, str(path), needs_control=False).perturbation
    kept = f"{column}_guide"
    if kept in obs:
        raise StateshiftError(f"obs has a column `{kept}` already, where the guides of `{column}` belong: rename it.")
    genes = genes_of_guides(obs[column], separator, (columns or {}).get("control"))
    logger.info("%s: %d labels of `%s` are %d genes and controls", path, obs[column].nunique(), column, genes.nunique())
    return obs.assign(**{kept: obs[column], column: genes})


def _with_flags(problem: str) -> str:
    """A sentence on a column, with the flag that names it beside the TOML's key."""
    for role, flag in FLAGS.items():
        problem = problem.replace(f"[columns] {role} = …", f"[columns] {role} = … or with {flag}")
    return problem


def _stored(group: Any, raw: RawCells) -> StoredMatrix:
    if raw.layer is None:
        return stored_matrix(group, raw.path)
    stored = stored_matrix({"X": group["layers"][raw.layer], "obs": group["obs"]}, raw.path)
    stored.where = f"{raw.path}: layer `{raw.layer}`"
    return stored


def _load(stored: StoredMatrix) -> tuple[csr_matrix, ValueFacts]:
    """The matrix as CSR float32, and facts of its values; reading ends at the first block with fractions."""
    logger.info("reading %s: %s cells × %s genes", stored.where, *(f"{n:,}" for n in stored.shape))
    facts = ValueFacts(stored.shape[0])
    if stored.kind == "csc":
        X = csr_matrix(whole_matrix(stored.element, stored.where), dtype=np.float32)
        facts.add(X.data, slice(None), csr_row_sums(X.indptr))
        return X, facts
    if stored.kind == "dense":
        blocks = []
        for start, stop, block in track(stored.rows(), "reading counts"):
            blocks.append(csr_matrix(block, dtype=np.float32))
            facts.add(blocks[-1].data, slice(start, stop), csr_row_sums(blocks[-1].indptr))
            if not facts.whole:
                break
        return vstack(blocks, format="csr"), facts
    indptr = stored.indptr()
    data = np.empty(stored.n_values, np.float32)
    indices = np.empty(stored.n_values, np.int32 if stored.n_values < 2**31 else np.int64)
    for start, stop, (values, columns, starts) in track(stored.rows(), "reading counts"):
        window = slice(indptr[start], indptr[stop])
        data[window], indices[window] = values, columns
        facts.add(data[window], slice(start, stop), csr_row_sums(starts))
        if not facts.whole:
            break
    return csr_matrix((data, indices, indptr.astype(indices.dtype)), stored.shape), facts


def _elsewhere(group: Any, raw: RawCells) -> str:
    """Where else in the file whole numbers lie, as a sentence."""
    layers = [name for name in group.get("layers", {}) if name != raw.layer and _looks_whole(group["layers"][name])]
    found = [f"layer `{name}` holds whole numbers: --layer {name}" for name in layers]
    if raw.layer is not None and _looks_whole(group["X"]):
        found.append("X holds whole numbers: leave --layer out")
    if "raw" in group and "X" in group["raw"] and _looks_whole(group["raw"]["X"]):
        found.append(".raw holds whole numbers: write it to a file of its own, adata.raw.to_adata().write_h5ad(…)")
    if found:
        return f"In this file, {some(found, 3)}."
    return "No other matrix of this file looks like counts; prepare the file from before normalisation."


def _looks_whole(element: Any) -> bool:
    """Whether the first values of a stored matrix are whole numbers, zeros aside."""
    values = element["data"][:VALUES_LOOKED_AT] if "data" in getattr(element, "keys", list)() else element[:20]
    values = np.asarray(values)
    return bool(values.size and values.any() and np.all(values == np.rint(values)) and values.min() >= 0)
