"""Pictures of mutations, of a scan and of a map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.files import written_beside
from stateshift.proteins.explore.mutants.comparison import THIRDS, Mutations
from stateshift.proteins.explore.mutants.scan import as_matrix
from stateshift.proteins.explore.projection import Projection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS, LONGEST_LABEL = 60, 32
MOST_COLOURS = 20
"""Above that many texts a column of a table says nothing as colours."""
NO_VALUE, GREY = "(not in the table)", "#b0b0b0"


def mutations_figure(seen: Mutations) -> Figure:
    """How far each mutant moved by its position, and where along the sequence its residues changed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6 if seen.profiles else 3.2), layout="constrained")
    axes = figure.subplots(2 if seen.profiles else 1, 1, squeeze=False)[:, 0]
    single = seen.table[seen.table["kind"] == "substitution"].sort_values("position")
    for i, third in enumerate(THIRDS):
        here = single[single["third"] == third]
        axes[0].vlines(here["position"].astype(float), 0, 1 - here["cosine"], color=f"C{i}", alpha=0.5)
        axes[0].plot(here["position"].astype(float), 1 - here["cosine"], "o", color=f"C{i}", label=third)
    if len(single) <= MOST_LABELS:
        for row in single.itertuples():
            place = {"fontsize": 6, "rotation": 90, "ha": "center", "va": "bottom"}
            axes[0].annotate(_label(row.id), (row.position, 1 - row.cosine), **place)
    axes[0].set(
        xlabel="mutated residue", ylabel=f"1 − cosine to {_label(seen.wt)}", title="Proteins: how far each mutant moved"
    )
    if len(single):
        axes[0].legend(title="third", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0].margins(y=0.15)
    if seen.profiles:
        axes[0].set_xlim(0.5, max(map(len, seen.profiles.values())) + 0.5)
        _profiles(axes[1], seen, [*single["id"], *seen.table.loc[seen.table["kind"] != "substitution", "id"]])
    return figure


def _profiles(axes, seen: Mutations, order: list[str]) -> None:
    ids = [id for id in order if id in seen.profiles]
    rows = np.stack([seen.profiles[id] for id in ids])
    image = axes.imshow(rows, aspect="auto", cmap="viridis", extent=(0.5, rows.shape[1] + 0.5, len(ids) - 0.5, -0.5))
    axes.figure.colorbar(image, ax=axes, label="1 − cosine")
    if len(ids) <= MOST_LABELS:
        axes.set_yticks(range(len(ids)), map(_label, ids), fontsize=5)
    axes.set(xlabel="residue", ylabel="mutant", title="Residues: change along the sequence")


def scan_figure(table: pd.DataFrame, sequence: str, column: str = "cosine") -> Figure:
    """Every single mutant as a heat map, amino acids by positions; dots mark the wild type.

    Parameters
    ----------
    table
        Of `scan_mutants`.
    sequence
        The wild type.
    column
        ``cosine`` (drawn as 1 − cosine), ``distance`` or ``score``.
    """
    from matplotlib.figure import Figure

    matrix = as_matrix(table, column)
    values = 1 - matrix if column == "cosine" else matrix
    figure = Figure(figsize=(min(60, max(6, 0.14 * len(sequence) + 2)), 4.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        values.to_numpy(dtype=float),
        aspect="auto",
        cmap="coolwarm_r" if column == "score" else "viridis",
        extent=(0.5, len(sequence) + 0.5, len(values) - 0.5, -0.5),
        **(_about_zero(values) if column == "score" else {}),
    )
    letters = list(values.index)
    marked = [(i, letters.index(residue)) for i, residue in enumerate(sequence, start=1) if residue in letters]
    axes.plot([x for x, _ in marked], [y for _, y in marked], "k.", markersize=3)
    axes.set_yticks(range(len(letters)), letters, fontsize=7)
    label = {
        "cosine": "1 − cosine to the wild type",
        "distance": "L2 distance",
        "score": "log p(mutant) − log p(wild type)",
    }
    figure.colorbar(image, ax=axes, label=label[column])
    axes.set(xlabel="residue", ylabel="stands in its place", title="Every single mutant (dots: wild type)")
    return figure


def _about_zero(values: pd.DataFrame) -> dict[str, float]:
    most = float(np.nanmax(np.abs(values.to_numpy(dtype=float))))
    return {"vmin": -most, "vmax": most}


def map_figure(found: Projection, color: str | None = None) -> Figure:
    """Proteins by their first two components, labelled by id where there are few, coloured by a column."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    table = found.table
    groups = _groups(table, color)
    if groups is not None:
        colours = colormaps["tab10" if len(groups) <= 10 else "tab20"].colors
        for i, (name, rows) in enumerate(groups):
            shown = GREY if i >= len(colours) else colours[i]
            axes.plot(rows["PC1"], rows["PC2"], "o", color=shown, label=_label(name), alpha=0.8)
        axes.legend(title=_label(color), frameon=False, fontsize=7)
    else:
        known, unknown = _with_and_without_number(table, color)
        if len(unknown):
            axes.scatter(unknown["PC1"], unknown["PC2"], c=GREY, label=NO_VALUE)
            axes.legend(frameon=False, fontsize=7)
        by_number = {} if color is None else {"c": known[color], "cmap": "viridis"}
        image = axes.scatter(known["PC1"], known["PC2"], **by_number)
        if color is not None and len(known):
            figure.colorbar(image, ax=axes, label=_label(color))
    if len(table) <= MOST_LABELS:
        for row in table.itertuples():
            axes.annotate(_label(row.id), (row.PC1, row.PC2), fontsize=6, xytext=(2, 2), textcoords="offset points")
    axes.set(xlabel=axis_label(found, 0), ylabel=axis_label(found, 1))
    return figure


def map_page(found: Projection, color: str | None = None) -> str:
    """The map as a page of its own: points tell their id and every column of the table."""
    import plotly.express as px

    groups = _groups(found.table, color)
    table = found.table if groups is None else found.table.assign(**{color: _texts(found.table[color])})
    options = {
        "x": "PC1",
        "y": "PC2",
        "text": "id" if len(table) <= MOST_LABELS else None,
        "hover_name": "id",
        "hover_data": list(table.columns[1:]),
        "labels": {"PC1": axis_label(found, 0), "PC2": axis_label(found, 1)},
        "template": "plotly_white",
    }
    known, unknown = (table, table[:0]) if groups is not None else _with_and_without_number(table, color)
    drawn = px.scatter(known, color=color, **options)
    if len(unknown):
        drawn.add_traces(px.scatter(unknown, **options).update_traces(marker_color=GREY, name=NO_VALUE).data)
        drawn.data = (drawn.data[-1], *drawn.data[:-1])
    drawn.update_traces(textposition="top center", textfont_size=9)
    return drawn.to_html(include_plotlyjs=True, full_html=True)


def axis_label(found: Projection, component: int) -> str:
    """As ``PC1 (63.1 % of variance)``."""
    return f"PC{component + 1} ({100 * found.explained[component]:.1f} % of variance)"


def _label(text: str) -> str:
    """A text as a picture has room for it, its dollar signs no formula."""
    short = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL // 2]}…{text[-LONGEST_LABEL // 2 + 1 :]}"
    return short.replace("$", r"\$")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure, in the place of an earlier one."""
    with written_beside(path, overwrite=True) as beside:
        figure.savefig(beside, dpi=150)


def _with_and_without_number(table: pd.DataFrame, color: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The proteins that a column of numbers colours, and those that it says nothing of."""
    if color is None:
        return table, table[:0]
    known = np.isfinite(table[color].to_numpy(dtype=float, na_value=np.nan))
    return table[known], table[~known]


def _groups(table: pd.DataFrame, color: str | None) -> list[tuple[str, pd.DataFrame]] | None:
    """The proteins by the texts of a column; None where it is absent or holds numbers."""
    if color is None or pd.api.types.is_numeric_dtype(table[color]):
        return None
    return list(table.groupby(_texts(table[color])))


def _texts(column: pd.Series) -> pd.Series:
    """A column's texts: blanks named, and all but the most frequent together."""
    texts = column.astype(object).where(column.notna(), NO_VALUE).astype(str)
    kept = texts.value_counts().index[:MOST_COLOURS]
    return texts.where(texts.isin(kept), "(others)")
