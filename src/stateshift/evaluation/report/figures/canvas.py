"""What all figures share: sizes, colours that the colour-blind tell apart, and SVG that takes its text colour from a page.

Colours are those of Okabe & Ito (2008), "Color universal design".
"""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn in this colour, which a page replaces by its own text colour; in a file it is black."""
ACCENT, OTHER, QUIET = "#D55E00", "#7c8a99", "#a9b1b9"
SAME, MISSED = "#0072B2", "#D55E00"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8c6d1f")


def cycle(count: int) -> list[str]:
    """As many colours, from the start again where they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def kinds(labels: pd.Series) -> list[tuple[str, str, np.ndarray]]:
    """Of each kind its name, its colour and its rows (R,); of more kinds than colours the smallest share the last."""
    names = sorted(labels.unique())
    if len(names) > len(COLOURS):
        names = sorted(labels.value_counts().index[: len(COLOURS) - 1])
    found = [(name, colour, (labels == name).to_numpy()) for name, colour in zip(names, COLOURS)]
    rest = ~labels.isin(names).to_numpy()
    return [*found, (f"{labels[rest].nunique()} others", COLOURS[-1], rest)] if rest.any() else found


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Axes | np.ndarray]:
    """A figure of inches and its panels, in ink on nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.patch.set_alpha(0)
        one.tick_params(colors=INK, labelsize=8)
        one.xaxis.label.set_color(INK)
        one.yaxis.label.set_color(INK)
        for side, spine in one.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
            spine.set_linewidth(0.6)
    return figure, axes


def without_mathematics(figure: Figure) -> Figure:
    """The figure with all text as it is: names come from users, and a dollar sign in one is no mathematics."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def inline_svg(figure: Figure, described: str) -> str:
    """The figure's ``<svg>`` element: text kept as text, the same bytes for the same data."""
    import matplotlib

    settings = {"svg.fonttype": "none", "svg.hashsalt": described}
    with matplotlib.rc_context(settings):
        out = io.StringIO()
        without_mathematics(figure).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(described, quote=True)}"', 1)
