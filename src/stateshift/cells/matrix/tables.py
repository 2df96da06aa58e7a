"""``obs`` and ``var`` of an open file as tables."""

from __future__ import annotations

from typing import Any

import pandas as pd


def read_table(group: Any, name: str) -> pd.DataFrame:
    """``obs`` or ``var``, byte strings decoded."""
    from anndata.io import read_elem

    if hasattr(group[name], "dtype"):
        frame = _legacy_table(group, name)
    else:
        _refuse_other_lengths(group[name], name)
        frame = read_elem(group[name])
    frame.index = pd.Index([as_text(v) for v in frame.index])
    for column in frame.columns:
        values = frame[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            if any(isinstance(c, bytes) for c in values.cat.categories):
                frame[column] = values.cat.rename_categories([as_text(c) for c in values.cat.categories])
        elif values.dtype == object:
            frame[column] = values.map(as_text)
    return frame


def table_length(table: Any) -> int:
    """The rows of ``obs`` or ``var``, from the index alone."""
    if hasattr(table, "dtype"):
        return int(table.shape[0])
    index = table.attrs.get("_index", "_index")
    names = table[index]
    # strings that may be missing, as pandas 3 has them, are a group of values and a mask
    return int((names if hasattr(names, "shape") else names["values"]).shape[0])


def _refuse_other_lengths(table: Any, name: str) -> None:
    """A column that tells another length than the index, before as many values are read."""
    n = table_length(table)
    for column in set(table) - {"__categories"}:
        held = table[column]
        for part in (held,) if hasattr(held, "shape") else (held[p] for p in ("codes", "values", "mask") if p in held):
            if tuple(part.shape) != (n,):
                raise RuntimeError(f"{name} column `{column}` is of shape {tuple(part.shape)} beside {n:,} names")


def _legacy_table(group: Any, name: str) -> pd.DataFrame:
    """``obs`` or ``var`` of anndata before 0.7: one array of records, whose first field is the index, categories in uns."""
    records, uns = group[name][:], group.get("uns", {})
    if not records.dtype.names:
        raise KeyError(f"{name} is no table")
    index, *columns = records.dtype.names
    frame = pd.DataFrame({column: records[column] for column in columns}, index=records[index])
    for column in columns:
        if f"{column}_categories" in uns:
            categories = uns[f"{column}_categories"][:]
            frame[column] = pd.Categorical.from_codes(frame[column], pd.Index(categories).map(as_text))
    return frame


def as_text(value: Any) -> Any:
    """Bytes decoded, anything else as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
