"""What a flag is, which there are, and how they are said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from stateshift.errors import some

COLUMNS = ["name", "kind", "model", "context", "perturbation", "figure", "limit", "meaning"]


@dataclass(frozen=True)
class Flag:
    """Something about a prediction that its scores don't say.

    Parameters
    ----------
    name
        One of `FLAGS`.
    model
        The prediction's name.
    context
        Where it was found.
    perturbation
        Likewise; "" where it is about all perturbations of the context.
    figure
        What was measured.
    limit
        What it was held against.
    """

    name: str
    model: str
    context: str
    perturbation: str
    figure: float
    limit: float


@dataclass(frozen=True)
class Meaning:
    """What a flag says.

    Parameters
    ----------
    kind
        ``warning`` where scores can't be trusted, ``note`` where an honest model does the same.
    figure
        What the figure is.
    text
        What it means, as the end of a sentence.
    """

    kind: Literal["warning", "note"]
    figure: str
    text: str


FLAGS = {
    "scaled up": Meaning(
        "warning",
        "size of the predicted effects, the measured being 1",
        "no effects of twice the measured size have a smaller squared error than no change; scores by direction or by "
        "the largest fold changes don't see it",
    ),
    "scaled down": Meaning(
        "note",
        "factor that would fit the predicted effects best to the measured",
        "the effects are too small: even three times as large they would be nearer to the truth",
    ),
    "no change": Meaning(
        "warning",
        "size of the predicted effects, the measured being 1",
        "the predicted cells have the mean of the controls",
    ),
    "same effect for all": Meaning(
        "note",
        "size of what differs between perturbations, the measured being 1",
        "every perturbation is predicted alike, as a mean of training effects would be",
    ),
    "cells shuffled": Meaning(
        "warning",
        "share of the measured differences between perturbations found within each group",
        "every group holds cells of several perturbations: what should tell groups apart lies within them",
    ),
    "labels permuted": Meaning(
        "warning",
        "share of the measured differences explained under other labels, and under their own none",
        "the predictions fit other perturbations than those they are named after",
    ),
    "pasted": Meaning(
        "warning",
        "variance of the cells within a group, the measured cells' being 1",
        "the cells of a group are one profile over and over: tests of which genes respond mean nothing",
    ),
    "constant cells": Meaning(
        "warning", "share of cells", "the cells have one value for all genes, as where all are zero"
    ),
    "control cells copied": Meaning("warning", "share of cells", "the predicted cells are control cells of the truth"),
    "cells repeated": Meaning(
        "warning", "share of cells", "the same cells stand under another perturbation or in another context"
    ),
    "mixed scales": Meaning(
        "warning", "share of cells", "the cells hold whole numbers among cells of log1p: counts were left in"
    ),
    "altered controls": Meaning(
        "warning",
        "squared difference of the prediction's controls to the truth's, the mean effect's being 1",
        "against its own controls every effect would carry that difference",
    ),
}
"""Name → what it says."""


def flags_frame(flags: Sequence[Flag]) -> pd.DataFrame:
    """Flags as the rows of ``flags.csv``: `COLUMNS`, warnings first, one row a (context, perturbation).

    Examples
    --------
    >>> flags_frame([Flag("pasted", "mine", "K562", "GATA1", 0.0, 0.01)]).loc[0, ["name", "kind"]].tolist()
    ['pasted', 'warning']
    """
    order = {name: i for i, name in enumerate(FLAGS)}
    rows = [asdict(f) | {"kind": FLAGS[f.name].kind, "meaning": FLAGS[f.name].text} for f in flags]
    rows.sort(key=lambda r: (r["model"], r["kind"] != "warning", order[r["name"]], r["context"], r["perturbation"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def flag_sentences(flags: pd.DataFrame) -> list[str]:
    """A sentence for each (model, name), with where it was found and its figures.

    Examples
    --------
    >>> flag_sentences(flags_frame([Flag("pasted", "mine", "K562", "GATA1", 0.0, 0.01)]))[0].partition(":")[0]
    'Warning, mine is pasted in GATA1 (K562)'
    """
    said = []
    for (model, kind, name), part in flags.groupby(["model", "kind", "name"], sort=False):
        places = [f"{p} ({c})" if p else c for p, c in zip(part["perturbation"], part["context"])]
        figure, limit = (_span(part[column]) for column in ("figure", "limit"))
        said.append(
            f"{kind.capitalize()}, {model} is {_SAID.get(name, name)} in {some(places, 4)}: {FLAGS[name].text} "
            f"({FLAGS[name].figure}: {figure}; limit {limit})."
        )
    return said


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


_SAID = {
    "no change": "next to no change",
    "same effect for all": "the same effect for all",
    "cells shuffled": "made of shuffled cells",
    "labels permuted": "under permuted labels",
    "constant cells": "made of constant cells",
    "control cells copied": "a copy of control cells",
    "cells repeated": "made of repeated cells",
    "mixed scales": "on mixed scales",
    "altered controls": "beside altered controls",
}
