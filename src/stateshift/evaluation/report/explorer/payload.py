"""A `Detail` as what the page's script reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stateshift.cells import REGIMES
from stateshift.evaluation.report.detail import Detail, Map
from stateshift.evaluation.report.detail.detail import FDR, RESPONSES
from stateshift.evaluation.report.explorer.packing import packed

VALUES = 600_000
"""Values an array that a page holds: 300 pairs of 2,000 genes."""
FEWEST_GENES = 50
STEPS = {
    "predicted": 0.001,
    "measured": 0.001,
    "significance": 0.01,
    "response": 1,
    "half_width": 0.001,
    "offset": 0.001,
}


def payload(detail: Detail, maps: Mapping[str, Map], gene_sets: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The JSON of everything but the arrays, and the packed arrays.

    The genes are cut to the strongest where there are more values than `VALUES`.
    """
    rows = table_rows(detail)
    detail = detail.with_strongest_genes(most_genes(detail))
    told, text = packed(_arrays(detail), STEPS)
    content = {
        "model": detail.model,
        "level": _plain(detail.level),
        "fdr": FDR,
        "responses": RESPONSES,
        "regimes": REGIMES,
        "genes": detail.genes,
        "chosen": detail.row_of(None, None),
        "rows": {name: [_plain(v) for v in rows[name]] for name in rows.columns},
        "arrays": told,
        "maps": [{"title": title, **_map(of)} for title, of in maps.items()],
        **_sets(detail.genes, gene_sets),
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False), text


def most_genes(detail: Detail) -> int:
    """How many genes of a prediction the page holds."""
    return max(FEWEST_GENES, VALUES // max(len(detail.rows), 1))


def table_rows(detail: Detail) -> pd.DataFrame:
    """The rows of the table: of `Detail.rows`, with the number of responding genes and the mean half-width."""
    rows = detail.rows.copy()
    if detail.fdr is not None:
        rows["responding"] = (detail.fdr < FDR).sum(axis=1)
    if detail.half_widths is not None:
        known = np.isfinite(detail.half_widths)
        total = np.where(known, detail.half_widths, 0).sum(axis=1)
        rows["half_width"] = np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
        if detail.measured is not None:
            inside = (np.abs(detail.centres - detail.measured) <= detail.half_widths + 1e-9) & known
            share = inside.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            rows["covered"] = np.where(known.any(axis=1), share, np.nan)
    return rows


def _arrays(detail: Detail) -> dict[str, np.ndarray]:
    arrays = {"predicted": detail.predicted}
    if detail.measured is not None:
        arrays["measured"] = detail.measured
        # the smallest float stands for a rate that underflowed
        arrays["significance"] = -np.log10(np.maximum(detail.fdr, 5e-324))
        arrays["response"] = detail.responses()
    if detail.half_widths is not None:
        arrays["half_width"] = detail.half_widths
        arrays["offset"] = detail.centres - detail.predicted
    return arrays


def _map(of: Map) -> dict[str, Any]:
    return {
        "places": [[_plain(round(x, 4)), _plain(round(y, 4))] for x, y in of.places.tolist()],
        "others": [[round(x, 4), round(y, 4)] for x, y in of.others.tolist()],
        "otherNames": of.other_names,
        "explained": list(of.explained),
        "once": of.by_perturbation,
    }


def _sets(genes: Sequence[str], gene_sets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    names = sorted({name for gene in genes for name in gene_sets.get(gene, ())})
    at = {name: i for i, name in enumerate(names)}
    of = {str(i): [at[name] for name in gene_sets[gene]] for i, gene in enumerate(genes) if gene in gene_sets}
    return {"setNames": names, "setsOf": of}


def _plain(value: Any) -> Any:
    """A number with five digits or a text; None for what JSON has no word for."""
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.5g}")
