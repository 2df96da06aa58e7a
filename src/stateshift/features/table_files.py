"""Vectors of genes in files of other suffixes: npz and h5ad."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, first_line, some, with_hidden_letters
from stateshift.feature_table import FeatureTable

SUFFIXES = (".pt", ".csv", ".tsv", ".npz", ".h5ad")


def read_vectors(path: Path) -> FeatureTable:
    """A table of vectors: ``.pt``, ``.csv``, ``.tsv`` (`FeatureTable.load`), ``.npz`` or ``.h5ad``.

    An ``.npz`` holds one array of gene names (P,) and one of numbers (P, F), under any two names; an ``.h5ad``
    has genes as ``obs_names`` and vectors in ``X``. Nothing pickled is read.

    Raises
    ------
    StateshiftError
        The file is missing, damaged or of another kind.
    InputProblems
        Genes named twice, NaN or infinite values.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StateshiftError(f"{path}: a table of vectors is read from {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such feature table.")
    if suffix not in (".npz", ".h5ad"):
        return FeatureTable.load(path)
    genes, vectors = _npz(path) if suffix == ".npz" else _h5ad(path)
    problems = []
    names, counts = np.unique(np.array(genes, dtype=str), return_counts=True)
    if (counts > 1).any():
        problems.append(f"genes occur twice: {some(names[counts > 1])}.")
    if hidden := with_hidden_letters(map(str, genes)):
        problems.append(f"genes are blank or hold letters that don't show: {some(hidden, 3)}.")
    finite = np.isfinite(vectors)
    if not finite.all():
        columns = np.flatnonzero(~finite.all(axis=0))
        rows = np.flatnonzero(~finite.all(axis=1))
        problems.append(
            f"NaN or infinity in {len(columns)} of {vectors.shape[1]} columns (number {some(map(str, columns), 3)}) "
            f"for {some([str(genes[i]) for i in rows], 5)}: leave these columns or genes out."
        )
    if problems:
        raise InputProblems(str(path), problems)
    return FeatureTable(list(genes), vectors, {"source": "table", "file": path.name})


def _npz(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # of numpy, zipfile or zlib
        raise StateshiftError(
            f"{path} can't be read safely: {first_line(error)}. Gene names as an array of texts (dtype str) need no pickle."
        ) from error
    names = [a for a in arrays.values() if a.ndim == 1 and a.dtype.kind in "US"]
    numbers = [a for a in arrays.values() if a.ndim == 2 and a.dtype.kind in "fiu"]
    if len(names) != 1 or len(numbers) != 1 or len(names[0]) != len(numbers[0]):
        held = some([f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()])
        raise StateshiftError(f"{path} needs one array of names (P,) and one of numbers (P, F); it holds {held}.")
    texts = names[0] if names[0].dtype.kind == "U" else np.char.decode(names[0], "utf-8", "replace")
    return [str(n).strip() for n in texts], numbers[0].astype(np.float32)


def _h5ad(path: Path) -> tuple[list[str], np.ndarray]:
    from scipy.sparse import issparse

    from stateshift.cells.loading import read_file

    stored = read_file(path)
    vectors = stored.X.toarray() if issparse(stored.X) else np.asarray(stored.X)
    return [str(name) for name in stored.obs.index], vectors.astype(np.float32)
