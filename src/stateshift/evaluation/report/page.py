"""Pieces of a self-contained HTML page; every string that comes from outside is escaped here."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources


def page(title: str, body: Iterable[str], script: str = "") -> str:
    """The whole document: style and script inside, and a policy that lets it fetch nothing and run nothing else."""
    style = (resources.files("stateshift.evaluation.report") / "report.css").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; " if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"{allowed}style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style></head>\n"
        '<body><a class="skip" href="#content">To the content</a><main id="content">\n'
        + "\n".join(body)
        + "\n</main>"
        + (f"<script>{script}</script>" if script else "")
        + "</body></html>\n"
    )


def text(value: object) -> str:
    """Any value as escaped text."""
    return html.escape(str(value), quote=True)


def heading(words: str, level: int = 2, anchor: str = "") -> str:
    """A heading, with an `anchor` one that the contents lead to."""
    return (
        f'<h{level} id="{text(anchor)}">{text(words)}</h{level}>' if anchor else f"<h{level}>{text(words)}</h{level}>"
    )


def contents(anchors: Mapping[str, str]) -> str:
    """Links to the headings: anchor → words."""
    links = "".join(f'<li><a href="#{text(anchor)}">{text(words)}</a></li>' for anchor, words in anchors.items())
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


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


def table(header: Sequence[str], rows: Iterable[Sequence[object]], words: bool = False, left: int = 1) -> str:
    """A table that scrolls sideways on a narrow screen; the first `left` columns (3 at most), or all of `words`, stand at the left."""
    return raw_table(
        header, ("<tr>" + "".join(f"<td>{text(v)}</td>" for v in row) + "</tr>" for row in rows), words, left
    )


def raw_table(header: Sequence[str], rows: Iterable[str], words: bool = False, left: int = 1) -> str:
    """As `table`, of rows that are HTML already."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    kind = "words" if words else f"wrapped left-{left}"
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def figure(svg: str, caption: str) -> str:
    """An inline SVG with its caption."""
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def folded(summary: str, content: str) -> str:
    """A file's text that opens on a click."""
    return f"<details><summary>{text(summary)}</summary><pre>{text(content)}</pre></details>"
