"""A prediction as a submission's candidate: the cells of one context, their labels, and the season's gene list."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells.columns import CONTROL, PERTURBATION
from stateshift.cells.matrix.scale import find_scale
from stateshift.evaluation.inputs import stored_cells
from stateshift.genes import read_names

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass
class Candidate:
    """Cells as they stand in the file, before anything is changed for the season.

    Parameters
    ----------
    X
        CSR (n, G'), zeros left out, column indices sorted.
    genes
        The G' symbols of the file.
    labels
        Perturbation of each cell (n,), or None where there is no column for it.
    control
        The control's name in the labels.
    contexts
        The contexts found, before one was chosen.
    uns
        ``uns["stateshift"]`` and ``uns["log1p"]`` of the file.
    problems
        Sentences on what could not be found.
    """

    X: csr_matrix
    genes: list[str]
    labels: np.ndarray | None
    control: str
    contexts: list[str]
    uns: dict[str, Any]
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def is_control(self) -> np.ndarray:
        """Mask (n,) of the control cells."""
        return np.zeros(self.X.shape[0], bool) if self.labels is None else self.labels == self.control

    def scale(self, where: str) -> str:
        """``counts``, ``log1p_1e4`` or ``log1p``; fractions that say nothing of themselves are log1p to the season."""
        said = dict(self.uns.get("stateshift", {})).get("scale")
        fractions = bool((self.X.data != np.rint(self.X.data)).any())
        return find_scale(self.X, self.uns, said or ("log1p" if fractions else None), where)


@dataclass(frozen=True)
class GeneList:
    """The season's genes in order, and a first line that looks like a header."""

    genes: list[str]
    header: str | None
    twice: list[str]


def read_candidate(predicted: Path | str | AnnData, context: str | None = None) -> Candidate:
    """Read a prediction and choose its context.

    Parameters
    ----------
    predicted
        ``obs["target_gene"]`` (or another conventional column), ``obs["context"]`` and ``uns["stateshift"]``.
    context
        The context whose cells are handed in; needed where there are several.
    """
    stored = stored_cells(predicted, "the prediction")
    obs, problems = stored.obs, {}
    about = dict(stored.uns.get("stateshift", {}))
    column = next((name for name in PERTURBATION if name in obs.columns), None)
    if column is None:
        problems["column"] = (
            f"obs has none of {', '.join(PERTURBATION)}; it has {', '.join(map(str, obs.columns)) or 'none'}"
        )
    labels = None if column is None else _texts(obs[column])
    contexts = sorted(set(_texts(obs["context"]))) if "context" in obs.columns else []
    X = csr_matrix(stored.X)
    if context is not None:
        keep = _texts(obs["context"]) == context if "context" in obs.columns else np.zeros(len(obs), bool)
        X, labels = X[keep], None if labels is None else labels[keep]
    elif not isinstance(predicted, str | Path):
        X = X.copy()
    X.sum_duplicates()
    X.eliminate_zeros()
    values = set() if labels is None else set(labels)
    control = about.get("control") or next((c for c in CONTROL if c in values), CONTROL[0])
    return Candidate(X, stored.genes, labels, str(control), contexts, stored.uns, problems)


def read_gene_list(path: Path | str, known: list[str]) -> GeneList:
    """First column of a CSV without header; a first line that looks like one is set apart.

    Parameters
    ----------
    path
        ``gene_names.csv`` of the season.
    known
        The prediction's genes: a first line among them is a gene, whatever it looks like.
    """
    header, genes = read_names(path)
    if header in known:
        header, genes = None, [header, *genes]
    counts = pd.Series(genes).value_counts()
    return GeneList(genes, header, sorted(counts.index[counts > 1]))


def _texts(column: pd.Series) -> np.ndarray:
    """A column's values as strings, NaN as the empty string."""
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
