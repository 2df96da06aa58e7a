"""The explorer's HTML: what a chosen pair, the table and the maps are drawn into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

from stateshift.cells import REGIMES
from stateshift.evaluation.report import page
from stateshift.evaluation.report.detail import Detail, Map
from stateshift.evaluation.report.explorer.payload import most_genes, payload, table_rows

COLUMNS = {
    "perturbation": "perturbation",
    "context": "context",
    "regime": "regime",
    "route": "route",
    "pearson_delta": "Pearson delta ↑",
    "mae": "MAE ↓",
    "pds_cosine": "PDS (cosine) ↑",
    "tier": "effect repeats",
    "covered": "inside interval",
    "half_width": "half-width",
    "responding": "responding genes",
    "n_true": "true cells",
    "n_sources": "training contexts",
    "nearest_gene": "nearest trained",
    "flags": "flags",
}
TEXTS = ("perturbation", "context", "regime", "route", "tier", "nearest_gene", "flags")
FILTERS = ("context", "regime", "route", "tier")
MOST_OPTIONS = 60
SCRIPTS = ("plots.js", "table.js", "explorer.js")


def explorer_section(detail: Detail, maps: Mapping[str, Map], gene_sets: Mapping[str, Sequence[str]]) -> list[str]:
    """HTML of the table, the plots and the maps, and the data that `script` draws them from."""
    content, arrays = payload(detail, maps, gene_sets)
    rows = table_rows(detail)
    columns = [name for name in COLUMNS if name in rows and rows[name].astype(object).replace("", None).notna().any()]
    n = len(rows)
    several = {name: sorted(set(rows[name]) - {""}) for name in FILTERS if name in rows}
    lines = [
        page.heading("Perturbation by perturbation", anchor="perturbations"),
        page.paragraph(
            "Changes are differences of mean log1p expression to control cells: natural logarithms of fold changes, with a "
            "pseudo-count of one. Choose a row by mouse, or with the arrow keys once one has the focus.",
            "soft",
        ),
        *_cut(detail),
        "<noscript>" + page.paragraph("The table and plots of this part need JavaScript.", "note") + "</noscript>",
        '<div id="explorer">',
        '<div class="controls">',
        '<label>Filter by name <input id="filter" type="search" autocomplete="off" spellcheck="false"></label>',
    ]
    lines += [_choice(name, values) for name, values in several.items() if 1 < len(values) <= MOST_OPTIONS]
    head = "".join(
        f'<th scope="col" data-key="{name}" class="{"" if name in TEXTS else "number"}"><button type="button">{page.text(COLUMNS[name])}</button></th>'
        for name in columns
    )
    lines += [
        f'<span id="count" role="status">{n:,} of {n:,}</span>',
        "</div>",
        '<div class="wide tall"><table id="pairs" class="words"><caption class="unseen">All scored pairs; the header buttons sort'
        f"</caption><thead><tr>{head}</tr></thead><tbody></tbody></table></div>",
        '<p><button type="button" id="more" hidden></button></p>',
        *_chosen(detail),
        *_maps(maps),
        "</div>",
        # base64 and JSON without `<` can't end the element that they stand in
        f'<script type="application/json" id="data">{content.replace("<", chr(92) + "u003c")}</script>',
        f'<script type="application/octet-stream" id="arrays">{arrays}</script>',
    ]
    return lines


def _cut(detail: Detail) -> list[str]:
    kept = most_genes(detail)
    if kept >= len(detail.genes):
        return []
    said = (
        f"Of {detail.n_genes:,} genes this page holds the {kept:,} with the strongest effect in any pair, and the targets. Scores, "
        "false discovery rates and the number of responding genes are of all."
    )
    return [page.paragraph(said, "soft")]


def script() -> str:
    """The page's script."""
    folder = resources.files("stateshift.evaluation.report.explorer")
    return "(() => {\n'use strict';\n" + "".join((folder / name).read_text() for name in SCRIPTS) + "})();\n"


def _choice(name: str, values: Sequence[str]) -> str:
    said = REGIMES if name == "regime" else {}
    options = "".join(
        f'<option value="{page.text(v)}">{page.text(f"{v}: {said[v]}" if v in said else v)}</option>' for v in values
    )
    return (
        f'<label>{COLUMNS[name]} <select data-filter="{name}"><option value="">all</option>{options}</select></label>'
    )


def _chosen(detail: Detail) -> list[str]:
    lines = ['<h3 id="chosen" aria-live="polite"></h3>', '<div class="facts" id="chosen-facts"></div>']
    if detail.measured is None:
        lines.append(
            page.paragraph(
                "No measured cells were given: there is no scatter against the truth, no volcano and no score.", "note"
            )
        )
    else:
        lines += [
            '<div class="controls"><label>Find a gene <input id="gene" list="gene-names" autocomplete="off" spellcheck="false">'
            '</label><datalist id="gene-names"></datalist></div>',
            '<div class="plots">',
            _plot(
                "scatter", "Predicted over measured change, a point a gene; bars are intervals, dashes: exactly right"
            ),
            _plot("volcano", "Measured change and its significance, a point a gene; dashes: FDR 0.05"),
            "</div>",
        ]
    kinds = '<option value="measured">measured</option>' if detail.measured is not None else ""
    lines += [
        '<div class="controls"><h4>Top genes</h4><label>by the largest change <select id="top-by">'
        f'{kinds}<option value="predicted">predicted</option></select></label></div>',
        '<div class="wide"><table id="top" class="words"><thead></thead><tbody></tbody></table></div>',
    ]
    if detail.half_widths is None:
        lines.append(page.paragraph("The prediction gives no intervals.", "soft"))
    return lines


def _maps(maps: Mapping[str, Map]) -> list[str]:
    if not maps:
        return []
    lines = [
        page.heading("Maps of the perturbations", 3),
        page.paragraph(
            "A point a perturbation; near points are alike (two principal components). A click, or arrow keys and Enter, choose a perturbation.", "soft"
        ),
        '<div class="controls"><label>colour by <select id="colour-by"></select></label></div>',
        '<div class="plots">',
    ]  # fmt: skip
    return [*lines, *(_plot(f"map-{i}", title) for i, title in enumerate(maps)), "</div>"]


def _plot(name: str, caption: str) -> str:
    return (
        f'<figure class="plot" id="{name}"><svg role="application" aria-roledescription="plot" tabindex="0" '
        f'aria-label="{page.text(caption)}: arrow keys go from point to point" viewBox="0 0 460 380"></svg>'
        f'<div class="legend"></div><p class="under" role="status"></p><figcaption>{page.text(caption)}</figcaption></figure>'
    )
