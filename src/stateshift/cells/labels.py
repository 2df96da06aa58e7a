"""The five labels of every cell, read from the obs columns of a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from stateshift.cells.columns import Columns
from stateshift.errors import InputProblems, some, with_hidden_letters

logger = logging.getLogger(__name__)

EMPTY = ("nan", "NaN", "None", "<NA>", "NaT")
"""Texts that a missing value becomes once a column is made text."""


def standard_obs(obs: pd.DataFrame, columns: Columns, dataset: str, file: str) -> pd.DataFrame:
    """Our five obs columns, all strings: dataset, file, context, perturbation, batch.

    Raises
    ------
    InputProblems
        Cells without a value in a column that is needed, and labels with spaces around them, of all columns.
    """
    needed = dict.fromkeys(filter(None, (columns.cell_type, columns.perturbation, columns.batch)))
    problems = [problem for column in needed for problem in _bad_labels(obs, column, columns.control)]
    if problems:
        raise InputProblems(file, problems)
    return pd.DataFrame(
        {
            "dataset": dataset,
            "file": file,
            "context": obs[columns.cell_type].astype(str).to_numpy(dtype=object),
            "perturbation": _perturbation_names(obs[columns.perturbation], columns.control),
            "batch": obs[columns.batch].astype(str).to_numpy(dtype=object) if columns.batch else "",
        },
        index=obs.index.astype(str),
    )


def single_name(name: str, control: str) -> str:
    """``A+ctrl``, as some tools write a single, is ``A``, and ``ctrl+ctrl`` is ``ctrl``; any other name stays.

    Examples
    --------
    >>> single_name("KLF1+ctrl", "ctrl"), single_name("KLF1+GATA1", "ctrl"), single_name("ctrl", "ctrl")
    ('KLF1', 'KLF1+GATA1', 'ctrl')
    """
    genes = [gene for gene in name.split("+") if gene != control]
    return "+".join(genes) or control


def single_names(names: Iterable[str], controls: Iterable[str]) -> list[str]:
    """`single_name` of each by any of the names that a control may have.

    Examples
    --------
    >>> single_names(["KLF1+ctrl", "control+KLF1", "KLF1+GATA1"], ["control", "ctrl"])
    ['KLF1', 'KLF1', 'KLF1+GATA1']
    """
    names = list(names)
    for control in controls:
        known = {name: single_name(name, control) for name in dict.fromkeys(names)}
        names = [known[name] for name in names]
    return names


def _bad_labels(obs: pd.DataFrame, column: str, control: str) -> list[str]:
    """No label, an empty one, or one with spaces around it would become a group of its own."""
    problems = []
    codes, names = pd.factorize(obs[column])
    texts = np.array([str(v) for v in names], dtype=object)
    blank = np.array([not t.strip() for t in texts], dtype=bool)
    empty = (codes < 0) | (blank[codes] if len(blank) else False)
    if empty.any():
        problems.append(
            f"obs `{column}` is empty in {empty.sum():,} cells (first: {obs.index[empty][0]}): "
            "fill it in, or drop those cells."
        )
    unread = sorted(set(texts) & {*EMPTY} - {control})
    if unread:
        n = int(np.isin(texts, unread)[codes].sum())
        problems.append(
            f"obs `{column}` says {some([f'`{v}`' for v in unread])} in {n:,} cells, which Python writes for an empty value: "
            "fill it in, or drop those cells."
        )
    spaced = sorted({t for t in texts if t != t.strip() and t.strip()})
    if spaced:
        problems.append(
            f"obs `{column}` holds labels with spaces around them ({some([repr(v) for v in spaced], 3)}): "
            f'strip them, adata.obs["{column}"] = adata.obs["{column}"].astype(str).str.strip().'
        )
    hidden = with_hidden_letters(sorted({t for t in texts if t.strip()}))
    if hidden:
        problems.append(
            f"obs `{column}` holds labels with letters that don't show ({some(hidden, 3)}): another label than what it reads "
            "like; rename them."
        )
    return problems


def _perturbation_names(column: pd.Series, control: str) -> np.ndarray:
    codes, names = pd.factorize(column.astype(str))
    singles = np.array([single_name(name, control) for name in names], dtype=object)
    shorter = [f"`{old}` as `{new}`" for old, new in zip(names, singles) if old != new]
    if shorter:
        logger.info("read %s", some(shorter, 3))
    return singles[codes]
