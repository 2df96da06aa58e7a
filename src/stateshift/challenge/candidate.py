"""A prediction as a submission's candidate: its labels, and its cells in blocks as they stand in the file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

from stateshift.cells.columns import BATCH, CELL_TYPE, CONTROL, PERTURBATION
from stateshift.cells.loading import read_file
from stateshift.cells.matrix.stored import VALUES_AT_ONCE, opened, refuse_repeats, row_ranges, stored_matrix
from stateshift.challenge.seasons import CellRules
from stateshift.errors import StateshiftError, some

if TYPE_CHECKING:
    from anndata import AnnData

CONTEXT = "context"
"""The context's column by the contract of predictions."""


@dataclass
class Candidate:
    """Cells as they stand in the file, before anything is changed for the season.

    Parameters
    ----------
    where
        The file's name, for sentences.
    genes
        The G' symbols of the file.
    labels
        Perturbation of each cell (n,), or None where there is no column for it.
    contexts
        Context of each cell (n,), or None likewise.
    batches
        Batch of each cell (n,), or None likewise.
    control
        The control's name in the labels.
    columns
        The obs columns there are.
    uns
        ``uns["stateshift"]`` and ``uns["log1p"]`` of the file.
    read
        Gives the file's rows in its order: first row, and CSR float32 (k, G') without stored zeros, indices sorted.
    """

    where: str
    genes: list[str]
    labels: np.ndarray | None
    contexts: np.ndarray | None
    batches: np.ndarray | None
    control: str
    columns: list[str]
    uns: dict[str, Any]
    read: Callable[[], Iterator[tuple[int, csr_matrix]]]
    n: int

    @property
    def is_control(self) -> np.ndarray:
        """Mask (n,) of the control cells."""
        return np.zeros(self.n, bool) if self.labels is None else self.labels == self.control

    @property
    def declared(self) -> str | None:
        """The scale that the file declares."""
        return self.uns.get("stateshift", {}).get("scale")

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, csr_matrix]]:
        """The rows of a mask (n,), a block at a time: their places in the file, and their cells."""
        for start, X in self.read():
            inside = np.flatnonzero(wanted[start : start + X.shape[0]])
            if len(inside):
                yield start + inside, X if len(inside) == X.shape[0] else X[inside]


@contextlib.contextmanager
def opened_candidate(
    predicted: Path | str | AnnData | Sequence[Path | str], rules: CellRules | None = None, name: str = "the prediction"
) -> Iterator[Candidate]:
    """Open a prediction, of which labels and genes are held in memory and cells are read in blocks.

    Parameters
    ----------
    predicted
        The season's obs columns or other conventional ones, and ``uns["stateshift"]``; CSC alone is read whole. Several
        files of the same genes are one after the other, on the genes of the first.
    rules
        A season's names of columns and control, which come before conventional ones.
    name
        What an AnnData in memory is called.
    """
    if isinstance(predicted, list | tuple):
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(opened_candidate(file, rules)) for file in predicted]
            yield files[0] if len(files) == 1 else _one_after_the_other(files)
        return
    if not isinstance(predicted, str | Path):
        genes = [str(g) for g in predicted.var_names]
        refuse_repeats(genes, name)
        if predicted.X is None:
            raise StateshiftError(f"{name} has no X.")
        yield _candidate(name, rules, predicted.obs, genes, predicted.uns, lambda: _of_memory(predicted.X))
        return
    path = Path(predicted)
    if path.suffix == ".vcc":
        raise StateshiftError(f"{path} is packed, its checks were made before: name the h5ad that it was made of.")
    about = read_file(path, with_matrix=False)
    with opened(path) as group:
        stored = replace(stored_matrix(group, path), sums_repeats=True)
        if stored.kind == "csc":
            for _ in stored.columns():
                pass  # places beyond the matrix are refused: scipy would write to them
            whole = csr_matrix(read_file(path).X)
            yield _candidate(str(path), rules, about.obs, about.genes, about.uns, lambda: _of_memory(whole))
            return

        def read() -> Iterator[tuple[int, csr_matrix]]:
            for start, stop, block in stored.rows():
                if stored.kind == "csr":
                    values, columns, starts = block
                    shape = (stop - start, stored.shape[1])
                    yield start, _clean(csr_matrix((values, columns, starts), shape), copy=False)
                else:
                    yield start, _clean(csr_matrix(block.astype(np.float32, copy=False)), copy=False)

        yield _candidate(str(path), rules, about.obs, about.genes, about.uns, read)


def _candidate(
    where: str, rules: CellRules | None, obs: pd.DataFrame, genes: list[str], uns: Mapping[str, Any], read: Callable
) -> Candidate:
    uns = {name: dict(uns[name]) for name in ("stateshift", "log1p") if isinstance(uns.get(name), Mapping)}
    own = (None, None, CONTROL[0]) if rules is None else (rules.perturbation, rules.context, rules.control)
    labels = _first_of(obs, (own[0], *PERTURBATION))
    declared = uns.get("stateshift", {}).get("control")
    control = str(declared or own[2])
    if labels is not None:
        values = set(labels)
        control = next((str(c) for c in (declared, own[2], *CONTROL) if c in values), control)
        labels[labels == own[2]] = control
    contexts = _first_of(obs, (own[1], CONTEXT, *CELL_TYPE))
    columns = list(map(str, obs.columns))
    return Candidate(where, genes, labels, contexts, _first_of(obs, BATCH), control, columns, uns, read, len(obs))


def _one_after_the_other(files: list[Candidate]) -> Candidate:
    first = files[0]
    for file in files[1:]:
        if set(file.genes) != set(first.genes):
            other = sorted(set(file.genes) ^ set(first.genes))
            raise StateshiftError(f"{first.where} and {file.where} hold other genes ({some(other, 3)} in one alone).")
        if file.control != first.control and file.is_control.any():
            raise StateshiftError(
                f"The control is `{first.control}` in {first.where} and `{file.control}` in {file.where}."
            )
    places = [pd.Index(file.genes).get_indexer(first.genes) for file in files]

    def read() -> Iterator[tuple[int, csr_matrix]]:
        before = 0
        for file, order in zip(files, places):
            for start, X in file.read():
                yield before + start, X if file.genes == first.genes else _clean(X[:, order])
            before += file.n

    def joined(what: str) -> np.ndarray | None:
        parts = [getattr(file, what) for file in files]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    where, n = ", ".join(file.where for file in files), sum(file.n for file in files)
    labels, contexts, batches = (joined(what) for what in ("labels", "contexts", "batches"))
    return replace(first, where=where, labels=labels, contexts=contexts, batches=batches, read=read, n=n)


def _of_memory(X: Any) -> Iterator[tuple[int, csr_matrix]]:
    X = X.tocsr() if issparse(X) else csr_matrix(np.asarray(X).astype(np.float32, copy=False))
    for start, stop in row_ranges(X.indptr.astype(np.int64), VALUES_AT_ONCE):
        yield start, _clean(X[start:stop])


def _clean(X: csr_matrix, copy: bool = True) -> csr_matrix:
    """Float32 without stored zeros and with sorted indices; a copy where the matrix is somebody else's."""
    X = X.astype(np.float32, copy=copy)
    X.sum_duplicates()
    X.eliminate_zeros()
    return X


def _first_of(obs: pd.DataFrame, columns: Sequence[str | None]) -> np.ndarray | None:
    """The first of the columns that there is, as strings, NaN as the empty string."""
    column = next((name for name in columns if name in obs.columns), None)
    if column is None:
        return None
    values = obs[column].astype(object)
    return values.where(values.notna(), "").astype(str).to_numpy(dtype=object)
