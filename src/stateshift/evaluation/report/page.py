"""Pieces of a self-contained HTML page; every string that comes from outside is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources


def page(title: str, body: Iterable[str]) -> str:
    """The whole document, its style inlined and nothing fetched."""
    style = (resources.files("stateshift.evaluation.report") / "report.css").read_text()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def text(value: object) -> str:
    """Any value as escaped text."""
    return html.escape(str(value), quote=True)


def heading(words: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{text(words)}</h{level}>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph, plain, ``soft`` or ``note``."""
    return f'<p class="{text(kind)}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def listing(items: Iterable[str]) -> str:
    """A bullet list."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def facts(pairs: Mapping[str, object]) -> str:
    """A row of small cards: a value and what it counts."""
    cards = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in pairs.items())
    return f'<div class="facts">{cards}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], words: bool = False) -> str:
    """A table that scrolls sideways on a narrow screen; `words` sets all columns to the left."""
    return raw_table(header, ("<tr>" + "".join(f"<td>{text(v)}</td>" for v in row) + "</tr>" for row in rows), words)


def raw_table(header: Sequence[str], rows: Iterable[str], words: bool = False) -> str:
    """As `table`, of rows that are HTML already."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    kind = ' class="words"' if words else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def figure(svg: str, caption: str) -> str:
    """An inline SVG with its caption."""
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def folded(summary: str, content: str) -> str:
    """A file's text that opens on a click."""
    return f"<details><summary>{text(summary)}</summary><pre>{text(content)}</pre></details>"
