"""Which names the genes of a raw file go by: var_names, or a var column of symbols."""

from __future__ import annotations

import logging
import re

import numpy as np
import pandas as pd

from stateshift.errors import some, suggestion
from stateshift.genes.names import ENSEMBL

logger = logging.getLogger(__name__)

VAR_NAMES = "var_names"
SYMBOL_COLUMNS = ("gene_name", "gene_symbol", "gene_symbols", "symbol", "feature_name", "gene_short_name", "gene")
SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9.@_-]{0,24}$")


def name_genes(var: pd.DataFrame, gene_column: str | None) -> tuple[np.ndarray, list[str]]:
    """A name for every stored gene, and what is wrong with the names.

    Parameters
    ----------
    var
        One row a stored gene.
    gene_column
        A column of it, or ``var_names`` to use those whatever they look like; None uses var_names where
        they are unique and no column suits better. Genes without a value in the column keep their var_name.

    Returns
    -------
    tuple
        Names (G stored); problems, one sentence each. Names given by ``gene_column`` may repeat: their
        counts are summed.

    Examples
    --------
    >>> var = pd.DataFrame({"symbol": ["TP53", "KRAS"]}, index=["ENSG00000141510", "ENSG00000133703"])
    >>> name_genes(var, "symbol")[0].tolist()
    ['TP53', 'KRAS']
    >>> print(name_genes(var, None)[1][0])
    var_names are Ensembl ids, and var column `symbol` looks like symbols (TP53, KRAS): pass --gene-column symbol, or --gene-column var_names to keep the ids.
    """
    var_names = var.index.astype(str).to_numpy(dtype=object)
    if gene_column is None:
        return var_names, _doubts(var, var_names)
    if gene_column == VAR_NAMES:
        names = var_names
    elif gene_column not in var:
        return var_names, [f"var has no column `{gene_column}`{suggestion(gene_column, [*var.columns, VAR_NAMES])}."]
    else:
        given = var[gene_column].astype(object)
        unnamed = given.isna().to_numpy() | (given.astype(str).str.strip() == "").to_numpy()
        names = np.where(unnamed, var_names, given.astype(str).to_numpy(dtype=object))
        if unnamed.any():
            logger.info("%s genes have no `%s` and keep their var_name", f"{unnamed.sum():,}", gene_column)
    repeated = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(repeated):
        logger.info("%s gene names stand for several genes, whose counts are summed: %s", len(repeated), some(repeated))
    return names, []


def _doubts(var: pd.DataFrame, var_names: np.ndarray) -> list[str]:
    """Why var_names shouldn't be used unasked."""
    columns = symbol_columns(var)
    shown = f"var column `{columns[0]}` looks like symbols ({some(var[columns[0]].dropna(), 3)})" if columns else ""
    problems = []
    index = pd.Index(var_names)
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        way_out = f"{shown}: --gene-column {columns[0]} uses it; " if columns else ""
        problems.append(
            f"var_names hold {some(twice, 4)} more than once: {way_out}--gene-column {VAR_NAMES} sums the counts of one name."
        )
    ensembl = np.mean([bool(ENSEMBL.match(name)) for name in var_names]) > 0.5 if len(var_names) else False
    if ensembl and columns:
        problems.append(
            f"var_names are Ensembl ids, and {shown}: pass --gene-column {columns[0]}, "
            f"or --gene-column {VAR_NAMES} to keep the ids."
        )
    elif ensembl:
        logger.warning(
            "var_names are Ensembl ids and no var column looks like symbols: perturbations have to be ids too"
        )
    return problems


def symbol_columns(var: pd.DataFrame) -> list[str]:
    """The var columns that look like gene symbols, those with a usual name first."""
    suited = []
    for column in var.columns:
        values = var[column].dropna()
        if not (isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(values.dtype)):
            continue
        distinct = [str(v) for v in values.unique()]
        symbols = sum(bool(SYMBOL.match(v)) and not ENSEMBL.match(v) for v in distinct)
        # a column such as feature_types or genome says the same of many genes
        if len(distinct) > len(var) / 2 and symbols > 0.8 * len(distinct):
            suited.append(str(column))
    return sorted(suited, key=lambda c: SYMBOL_COLUMNS.index(c) if c in SYMBOL_COLUMNS else len(SYMBOL_COLUMNS))
