"""What the checks need to know of a candidate's cells, gathered in one pass that keeps none of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells.matrix.scale import ValueFacts, csr_row_sums
from stateshift.challenge.candidate import Candidate
from stateshift.challenge.looking import look
from stateshift.progress import track


@dataclass
class CellFacts:
    """Facts of the n cells that are looked at, and of their K groups.

    Parameters
    ----------
    rows
        Places of the cells in the file (n,).
    groups
        (context, label) of each group, sorted.
    of_group
        The group of each cell (n,).
    values
        Range, whole numbers, NaN, and each cell's total over the listed genes.
    n_negative
        Values below 0.
    listed
        Mask of the file's genes (G',) that are handed in; None: all.
    stored
        Values of those genes that are not 0, of each cell (n,).
    fractions
        Whether a cell holds any fraction larger than ``whole`` (n,).
    digests
        16 bytes of each cell's content (n,): equal cells have equal ones.
    sums, squares
        Of each group's values (K, G') float64.
    """

    rows: np.ndarray
    groups: list[tuple[str, str]]
    of_group: np.ndarray
    values: ValueFacts
    whole: float = 0.0
    listed: np.ndarray | None = None
    n_negative: int = 0
    stored: np.ndarray = field(init=False)
    fractions: np.ndarray = field(init=False)
    digests: np.ndarray = field(init=False)
    sums: np.ndarray | None = None
    squares: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.rows)
        self.stored, self.fractions = np.zeros(n, np.int64), np.zeros(n, bool)
        self.digests = np.zeros(n, "V16")

    @property
    def sizes(self) -> np.ndarray:
        """Cells of each group (K,)."""
        return np.bincount(self.of_group, minlength=len(self.groups))

    def means(self) -> np.ndarray:
        """Mean of each group (K, G')."""
        return self.sums / self.sizes[:, None]

    def variance(self) -> np.ndarray:
        """Mean over the genes of each group's variance between cells (K,)."""
        return np.maximum(self.squares / self.sizes[:, None] - self.means() ** 2, 0).mean(axis=1)

    def spelling(self, mask: np.ndarray) -> list[str]:
        """``target`` or ``target in context`` of the groups of a mask (K,)."""
        several = len({context for context, _ in self.groups}) > 1
        return [f"{t} in {c}" if several else t for (c, t), is_one in zip(self.groups, mask) if is_one]


def gather(
    found: Candidate,
    wanted: np.ndarray,
    what: str = "checking cells",
    columns: np.ndarray | None = None,
    whole: float = 0.0,
    listed: np.ndarray | None = None,
) -> CellFacts:
    """Look at every value of the cells of a mask (n,) once.

    Memory is that of a block and of two numbers a group and gene.

    Parameters
    ----------
    columns
        The genes to look at by their places, in another order than the file's.
    whole
        A fraction no larger than this counts as none.
    listed
        Mask of the file's genes (G',), where totals and numbers of values are to be of some of them alone.
    """
    rows = np.flatnonzero(wanted)
    labels = np.full(len(rows), "", object) if found.labels is None else found.labels[rows]
    contexts = np.full(len(rows), "", object) if found.contexts is None else found.contexts[rows]
    by = pd.DataFrame({"context": contexts, "label": labels}).groupby(["context", "label"])
    groups, of_group = by.size().index.tolist(), by.ngroup().to_numpy()
    facts = CellFacts(rows, groups, of_group, ValueFacts(len(rows)), whole, listed)
    facts.sums, facts.squares = np.zeros((2, len(groups), len(found.genes) if columns is None else len(columns)))
    done = 0
    for _, X in track(found.blocks(wanted), what):
        if columns is not None:
            X = X[:, columns]
            X.sort_indices()
        here = slice(done, done + X.shape[0])
        _look(facts, X, here)
        done = here.stop
    return facts


def _look(facts: CellFacts, X: csr_matrix, here: slice) -> None:
    row_sums, data = csr_row_sums(X.indptr), X.data
    listed = None if facts.listed is None else facts.listed[X.indices]
    facts.values.add(data, here, row_sums, listed)
    facts.stored[here] = np.diff(X.indptr) if listed is None else row_sums(listed)
    if facts.values.n_bad:
        facts.n_negative += int((data < 0).sum())
        return  # nothing else is asked of such cells
    pairs = np.zeros((X.shape[0], 2), np.uint64)
    given = (X.data, np.asarray(X.indices, np.int32), np.asarray(X.indptr, np.int64), facts.of_group[here])
    facts.n_negative += look(*given, facts.whole, facts.sums, facts.squares, facts.fractions[here], pairs)
    facts.digests[here] = pairs.view("V16").ravel()
