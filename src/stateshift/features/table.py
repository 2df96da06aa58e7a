"""Features from a table that exists: a FeatureTable, or a csv/tsv with the gene in its first column."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.sources import FeatureRequest
from stateshift.files import sha256

logger = logging.getLogger(__name__)

TEXT = {".csv": ",", ".tsv": "\t"}


def table_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' vectors as they stand in ``request.lookup``.

    Raises
    ------
    StateshiftError
        No lookup is named, it can't be read, or it lacks genes and the policy is ``error``.
    """
    if request.lookup is None:
        raise StateshiftError("The source `table` needs an existing table: name it with --lookup.")
    path = Path(request.lookup)
    table = read_table(path)
    found = [gene for gene in request.genes if gene in table]
    folded = {gene.casefold(): gene for gene in table.genes}
    missing = {}
    for gene in request.genes:
        if gene not in table:
            slip = folded.get(gene.casefold())
            missing[gene] = "not in the table" + (f" (did you mean `{slip}`? case differs)" if slip else "")
    request.refuse_missing(missing, path.name)
    logger.info("%d of %d genes found in %s.", len(found), len(request.genes), path.name)
    origin = table.provenance
    provenance = {
        "source": "table",
        "lookup": path.name,
        "lookup_sha256": sha256(path),
        "lookup_provenance": origin,
        "missing": missing,
    }
    # a vector that was filled in there is no measurement here either, and a demo stays a demo
    filled = {g: p for g, p in origin.get("missing_policy", {}).items() if g in set(found)}
    if filled:
        logger.info("%d of them were filled in when %s was made: %s.", len(filled), path.name, some(filled))
        provenance["filled_in_lookup"] = filled
    if origin.get("demo"):
        provenance["demo"] = True
        logger.info("%s was made with the embedded demo model: for trying out, not for research.", path.name)
    return FeatureTable(found, table.subset(found).vectors, provenance)


def read_table(path: str | Path) -> FeatureTable:
    """Read a feature table: ``.pt``, or ``.csv``/``.tsv`` with a header and the gene in the first column.

    Raises
    ------
    StateshiftError
        The file is missing or can't be read as a table.
    InputProblems
        Columns that aren't numbers, genes named twice, values that are missing or infinite.
    """
    path = Path(path)
    if path.suffix.lower() not in TEXT:
        return FeatureTable.load(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such feature table.")
    try:
        frame = pd.read_csv(path, sep=TEXT[path.suffix.lower()], index_col=0, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise StateshiftError(f"{path} can't be read as a table: {str(error).splitlines()[0]}") from error
    if frame.empty:
        raise StateshiftError(f"{path} holds no vectors: a gene in the first column, numbers in the others.")
    frame.index = frame.index.astype(str).str.strip()
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(numbers.to_numpy(dtype=float))
    problems = [
        f"column `{column}` holds `{frame[column][~ok].iloc[0]}` for gene `{frame.index[~ok][0]}`, no finite number."
        for column, ok in zip(frame.columns, finite.T)
        if not ok.all()
    ]
    twice = frame.index[frame.index.duplicated()].unique()
    if len(twice):
        problems.append(f"genes occur twice: {some(twice)}.")
    if "" in frame.index:
        problems.append("a row has no gene in the first column.")
    if problems:
        raise InputProblems(str(path), problems)
    return FeatureTable(list(frame.index), numbers.to_numpy(np.float32), {"source": "table", "file": path.name})
