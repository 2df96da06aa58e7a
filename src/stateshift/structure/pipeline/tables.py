"""Vectors and residue rows as files: tensors, parquet or csv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import read_csv, read_tensors, refuse_parquet_without_pyarrow, written_beside

FILE_TYPES = ("pt", "parquet", "csv")


def write_named(content: Mapping[str, Tensor], path: Path, overwrite: bool = False) -> Path:
    """Write named vectors (H,) or rows (L, D), in the form that the file's suffix says.

    ``.pt``: one tensor where there is one name, which the file's name tells, else a dict name → tensor;
    ``.parquet`` and ``.csv``: columns ``name`` (and ``residue`` for rows) and then ``0``, ``1`` …
    """
    refuse_parquet_without_pyarrow(path)
    with written_beside(path, overwrite) as part:
        if path.suffix == ".pt":
            single = len(content) == 1 and path.stem in content
            torch.save(next(iter(content.values())) if single else dict(content), part)
        else:
            frame = _frame(content)
            if path.suffix == ".parquet":
                frame.to_parquet(part, index=False)
            else:
                frame.to_csv(part, index=False)
    return path


def read_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """Name → vector (H,) float32 of a file that `write_named` wrote, or of a folder of them.

    Raises
    ------
    StateshiftError
        It is missing, damaged, holds residue rows instead of vectors, or vectors of several widths.
    """
    path = Path(path)
    if path.is_dir():
        # hidden ones are parts that a killed run left
        there = [f for f in path.iterdir() if not f.name.startswith(".") and ".failures" not in f.name]
        files = sorted(f for f in there if f.suffix.lstrip(".") in FILE_TYPES)
        if not files:
            raise StateshiftError(f"{path} holds no vectors (.pt, .parquet or .csv).")
        vectors: dict[str, np.ndarray] = {}
        for file in files:
            made = read_vectors(file)
            if twice := made.keys() & vectors.keys():
                raise StateshiftError(f"{path} holds vectors of one name in several files: {some(sorted(twice))}.")
            vectors |= made
    elif not path.is_file():
        raise StateshiftError(f"{path}: there is no such file of vectors.")
    elif path.suffix == ".pt":
        vectors = _tensors(path)
    elif path.suffix in (".parquet", ".csv"):
        vectors = _table(path)
    else:
        raise StateshiftError(f"{path} is no file of vectors{suggestion(path.suffix.lstrip('.'), FILE_TYPES)}.")
    widths = {vector.shape for vector in vectors.values()}
    if len(widths) != 1 or len(next(iter(widths))) != 1:
        shapes = some(" × ".join(map(str, shape)) for shape in widths)
        raise StateshiftError(f"{path} holds values of the shapes {shapes}: vectors of one width are needed.")
    bad = [name for name, vector in vectors.items() if not np.isfinite(vector).all()]
    if bad:
        raise StateshiftError(f"{path} holds NaN or infinity for {some(bad)}.")
    return vectors


def _frame(content: Mapping[str, Tensor]):
    import pandas as pd

    rows = {name: value.reshape(-1, value.shape[-1]).numpy() for name, value in content.items()}
    values = np.concatenate(list(rows.values()))
    frame = pd.DataFrame(values, columns=[str(i) for i in range(values.shape[1])])
    frame.insert(0, "name", [name for name, value in rows.items() for _ in value])
    if any(value.ndim == 2 for value in content.values()):
        frame.insert(1, "residue", [i for value in rows.values() for i in range(len(value))])
    return frame


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        content = read_tensors(path)
    except Exception as error:
        raise StateshiftError(f"{path} can't be read safely: it is damaged or holds Python objects.") from error
    if isinstance(content, Tensor):
        content = {path.stem: content}
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise StateshiftError(f"{path} holds neither a tensor nor a dict name → tensor.")
    return {str(name): value.float().numpy() for name, value in content.items()}


def _table(path: Path) -> dict[str, np.ndarray]:
    import pandas as pd

    refuse_parquet_without_pyarrow(path)
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path, dtype={"name": str})
        if "name" not in frame or "residue" in frame:
            raise StateshiftError(
                f"{path} is no table of vectors: it needs the columns name, 0, 1 …, one row a vector."
            )
        values = frame.drop(columns="name").to_numpy(np.float32)
    except StateshiftError:
        raise
    except (ValueError, OSError) as error:
        raise StateshiftError(f"{path} can't be read as a table: {' '.join(str(error).split())[:160]}") from error
    if frame["name"].duplicated().any():
        raise StateshiftError(f"{path} names twice: {some(frame['name'][frame['name'].duplicated()].unique())}.")
    if not len(frame):
        raise StateshiftError(f"{path} holds no vectors.")
    return dict(zip(frame["name"].astype(str), values))
