"""Effects that exist already: published tables, matrices and h5ad files, partly measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.pseudobulk.h5ad import read_effects_h5ad
from stateshift.cells.pseudobulk.published.columns import LOG2, conventional, find_roles, plain
from stateshift.cells.pseudobulk.published.text import SEPARATORS, TextTable, suffix_of
from stateshift.cells.pseudobulk.table import EffectTable
from stateshift.errors import InputProblems, StateshiftError, some

LABELS = ("context", "perturbation", "gene")


def read_effects(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    in_context: str = "unnamed",
    scale: str | None = None,
) -> EffectTable:
    """Effects a user already has, as an effect table; NaN where nothing was measured.

    Three forms are read: a text table of one row a (perturbation, gene), with the columns ``perturbation``,
    ``gene``, a value (``log2fc``, ``effect``, …) and perhaps ``context`` and ``standard_error``; a text
    matrix of perturbations (rows, named in the first column) × genes; an h5ad file or zarr store with
    ``obs["perturbation"]`` (and ``obs["context"]``), of which the keys of `effects_to_anndata` are read too.
    Text is .csv or .tsv, or either .gz. Empty, NA, NaN and null are not measured; columns without a role are passed over
    in a table.

    Parameters
    ----------
    path
        The file.
    columns
        Role → column, for roles ``perturbation``, ``gene`` (the measured one), ``value``, ``context``,
        ``standard_error`` and ``p_value``; conventions fill what is absent and refuse what could be two. From a two-sided ``p_value`` of a Wald test a
        standard error is |value| / Φ⁻¹(1 − p/2) (Altman & Bland, BMJ 343, d2090, 2011), NaN for p of 0 or 1.
    in_context
        The context of all rows where no column tells it.
    scale
        What the numbers are. Default: what the file says; ``log2_fold_change`` for a column whose name
        says so; else the name of the value's column.

    Raises
    ------
    StateshiftError
        The file can't be read.
    InputProblems
        Columns that are missing or ambiguous, values that are no numbers (with their lines), names that are empty,
        pairs or genes that occur twice.
    """
    path, declared = Path(path), {k: v for k, v in (columns or {}).items() if v is not None}
    if suffix_of(path) in (".h5ad", ".zarr"):
        return read_effects_h5ad(path, declared, in_context, scale)
    if suffix_of(path) not in SEPARATORS:
        raise StateshiftError(f"{path}: effects are read from .csv, .tsv, either .gz, .h5ad or .zarr.")
    table = TextTable.open(path)
    if any(r in declared or conventional(table.header, declared, r) for r in ("gene", "value")):
        return _from_long(table, declared, in_context, scale)
    return _from_matrix(table, declared, in_context, scale)


def _from_long(table: TextTable, declared: Mapping[str, str], in_context: str, scale: str | None) -> EffectTable:
    """One row a (perturbation, gene)."""
    wanted = ("perturbation", "gene", "value", "context", "standard_error", "p_value")
    roles = find_roles(table.header, declared, wanted, str(table.path))
    numbers = [roles[r] for r in ("value", "standard_error", "p_value") if r in roles]
    frame = table.read([roles[r] for r in LABELS if r in roles], numbers)
    codes, names = {}, {"context": [in_context]}
    for role in LABELS:
        if role in roles:
            codes[role], names[role] = pd.factorize(frame[roles[role]], sort=role != "gene")
    pair = codes.get("context", 0) * len(names["perturbation"]) + codes["perturbation"]
    pairs, row = np.unique(pair, return_inverse=True)
    contexts = [str(names["context"][p // len(names["perturbation"])]) for p in pairs]
    perturbations = [str(names["perturbation"][p % len(names["perturbation"])]) for p in pairs]
    cell = row * len(names["gene"]) + codes["gene"]
    twice = pd.Series(cell).duplicated().to_numpy()
    if twice.any():
        shown = [
            f"{perturbations[row[i]]} on {names['gene'][codes['gene'][i]]} in {contexts[row[i]]} (line {frame.index[i]})"
            for i in np.flatnonzero(twice)[:4]
        ]
        more = f" and {twice.sum() - len(shown):,} more" if twice.sum() > len(shown) else ""
        raise InputProblems(str(table.path), [f"measured more than once: {', '.join(shown)}{more}."])

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.full((len(pairs), len(names["gene"])), np.nan, dtype=np.float32)
        out.flat[cell] = values
        return out

    error = _standard_error(frame, roles, table.path)
    return EffectTable(
        [str(g) for g in names["gene"]],
        perturbations,
        contexts,
        spread(frame[roles["value"]].to_numpy()),
        None,
        {},
        standard_error=None if error is None else spread(error),
        scale=scale or ("log2_fold_change" if plain(roles["value"]) in LOG2 else roles["value"]),
    )


def _standard_error(frame: pd.DataFrame, roles: Mapping[str, str], path: Path) -> np.ndarray | None:
    """As given, or by a p value; None without either."""
    if "standard_error" in roles:
        error = frame[roles["standard_error"]].to_numpy()
        if (error < 0).any():
            line = frame.index[error < 0][0]
            raise StateshiftError(f"{path}: `{roles['standard_error']}` is negative in line {line}.")
        return error
    if "p_value" not in roles:
        return None
    from scipy.stats import norm

    p = frame[roles["p_value"]].to_numpy()
    if ((p < 0) | (p > 1)).any():
        raise StateshiftError(
            f"{path}: `{roles['p_value']}` is no p value in line {frame.index[(p < 0) | (p > 1)][0]}: 0 to 1 is needed."
        )
    return np.abs(frame[roles["value"]].to_numpy()) / norm.isf(np.where((p > 0) & (p < 1), p, np.nan) / 2)


def _from_matrix(table: TextTable, declared: Mapping[str, str], in_context: str, scale: str | None) -> EffectTable:
    """Perturbations × genes, the perturbations in the first column where no other is named."""
    given = dict(declared)
    if "perturbation" not in declared and not conventional(table.header, declared, "perturbation"):
        given["perturbation"] = table.header[0]
    roles = find_roles(table.header, given, ("perturbation", "context"), str(table.path))
    genes = [c for c in table.header if c not in roles.values()]
    if not genes:
        raise StateshiftError(
            f"{table.path} has no column of numbers: a table (perturbation, gene, value) or a matrix of perturbations × "
            f"genes is needed; its columns are {some(table.header)}."
        )
    frame = table.read([roles[r] for r in ("context", "perturbation") if r in roles], genes)
    perturbations = frame[roles["perturbation"]].astype(str).tolist()
    contexts = frame[roles["context"]].astype(str).tolist() if "context" in roles else [in_context] * len(frame)
    pairs = pd.Series(zip(contexts, perturbations), dtype=object)
    if pairs.duplicated().any():
        twice = [f"{p} in {c}" for c, p in pairs[pairs.duplicated()].unique()]
        raise InputProblems(str(table.path), [f"rows occur more than once: {some(twice, 4)}."])
    return EffectTable(
        genes, perturbations, contexts, frame[genes].to_numpy(np.float32), None, {}, scale=scale or "value"
    )
