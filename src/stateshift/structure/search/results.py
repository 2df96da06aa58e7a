"""Hits, edges and clusters as files: csv, and a page to look at."""

from __future__ import annotations

import csv
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stateshift.files import written_beside

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { background: #3b6ea5; height: .6rem; display: inline-block; }
"""


def write_rows(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[Any]], overwrite: bool = False) -> Path:
    """Write a csv whole or not at all."""
    path = Path(path)
    with written_beside(path, overwrite) as part, part.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(header)
        table.writerows(rows)
    return path


def write_hits(hits: Mapping[str, Sequence[tuple[str, float]]], path: str | Path) -> Path:
    """The table ``Query,Rank,Match,Score`` of a search."""
    rows = [
        (query, rank, name, f"{score:.6f}")
        for query, found in hits.items()
        for rank, (name, score) in enumerate(found, start=1)
    ]
    return write_rows(path, ("Query", "Rank", "Match", "Score"), rows)


def write_page(
    hits: Mapping[str, Sequence[tuple[str, float]]],
    path: str | Path,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """One self-contained HTML page with the hits of each query, their scores and what is known of them."""
    metadata = metadata or {}
    columns = list(dict.fromkeys(c for found in hits.values() for name, _ in found for c in metadata.get(name, {})))
    parts = [f"<h1>Structures alike</h1><p>{len(hits)} queries. {_told(about or {})}</p>"]
    for query, found in hits.items():
        parts.append(f"<h2>{_text(query)}</h2>")
        parts.append(_table(found, columns, metadata) if found else "<p>No entry passes the threshold.</p>")
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Structures alike</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path = Path(path)
    with written_beside(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _table(
    found: Sequence[tuple[str, float]], columns: Sequence[str], metadata: Mapping[str, Mapping[str, Any]]
) -> str:
    heads = "".join(f"<th>{_text(c)}</th>" for c in ("", "match", "cosine", "", *columns))
    rows = []
    for rank, (name, score) in enumerate(found, start=1):
        known = metadata.get(name, {})
        cells = "".join(f"<td>{_text('' if known.get(c) is None else known[c])}</td>" for c in columns)
        bar = f'<span class="bar" style="width:{max(score, 0) * 8:.1f}rem"></span>'
        rows.append(
            f'<tr><td class="number">{rank}</td><td>{_text(name)}</td><td class="number">{score:.3f}</td>'
            f"<td>{bar}</td>{cells}</tr>"
        )
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"


def _told(about: Mapping[str, Any]) -> str:
    return "; ".join(f"{_text(key)}: {_text(value)}" for key, value in about.items())


def _text(value: Any) -> str:
    return html.escape(str(value))
