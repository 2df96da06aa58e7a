"""Predictions made apart, on several machines or one after the other, as one file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stateshift.cells.matrix.stored import opened
from stateshift.cells.matrix.stream import CellStream
from stateshift.cells.matrix.tables import read_table
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.files import written_beside
from stateshift.progress import track

if TYPE_CHECKING:
    from anndata.abc import CSRDataset

logger = logging.getLogger(__name__)

PER_PAIR = ("context", "target_gene", "regime", "effects", "half_widths", "of_mean", "spread")
"""What of ``uns["stateshift"]`` has a row a (context, perturbation); all else is the same for every part."""
ROWS_AT_ONCE = 10_000


@dataclass
class Part:
    """One of the predictions: its open file, its tables and what it says of itself."""

    path: Path
    group: Any
    X: CSRDataset
    obs: pd.DataFrame
    var: pd.DataFrame
    about: dict[str, Any]

    @property
    def n_predicted(self) -> int:
        """Predicted cells; they come before the controls."""
        return int((~self.obs["is_control"]).sum())

    def controls(self, context: str) -> slice:
        """Where the control cells of a context lie."""
        rows = np.flatnonzero((self.obs["is_control"] & (self.obs["context"] == context)).to_numpy())
        return slice(rows[0], rows[-1] + 1)

    def pairs(self) -> set[tuple[str, str]]:
        """(context, perturbation) of its predicted cells."""
        found = self.obs[~self.obs["is_control"]][["context", "target_gene"]].astype(str).drop_duplicates()
        return set(found.itertuples(index=False, name=None))


def join_predictions(parts: Sequence[str | Path], output: str | Path, overwrite: bool = False) -> Path:
    """Join predictions of one run for different perturbations or contexts.

    Every perturbation is predicted for itself, so parts that are predicted apart, with other ``--perturb`` or
    ``--context`` and all else the same, hold what one prediction would. They are streamed: no more than a few thousand
    cells are in memory.

    Parameters
    ----------
    parts
        Files of `stateshift.prediction.predict`. Their predicted cells follow one another in this order.
    output
        The h5ad file to write; ``obs``, ``var``, ``X``, ``obsm["X_predicted"]`` and ``uns["stateshift"]`` are by the
        contract of a prediction.
    overwrite
        Whether `output` may be replaced.

    Raises
    ------
    StateshiftError
        The parts are of different runs, seeds, genes or control cells, or hold a pair twice.
    """
    output = Path(output)
    if len(parts) < 2:
        raise StateshiftError("Joining needs two predictions or more.")
    if output.resolve() in {Path(part).resolve() for part in parts}:
        raise StateshiftError(f"{output} is one of the parts too: choose another output.")
    with ExitStack() as stack:
        read = [_read(Path(path), stack.enter_context(opened(path))) for path in parts]
        about = _about(read)
        contexts = sorted({context for part in read for context, _ in part.pairs()})
        holders = {c: next(part for part in read if c in set(part.obs["context"])) for c in contexts}
        obs = _obs(read, holders)
        with written_beside(output, overwrite) as beside:
            with CellStream(beside, obs, read[0].var, {"stateshift": about}) as stream:
                for part in track(read, "joining"):
                    for start in range(0, part.n_predicted, ROWS_AT_ONCE):
                        stream.append(part.X[start : min(start + ROWS_AT_ONCE, part.n_predicted)])
                for context, part in holders.items():
                    stream.append(part.X[part.controls(context)])
            _write_embeddings(beside, read, holders)
    pairs = sum(len(part.pairs()) for part in read)
    logger.info(
        "%s: %d parts, %d perturbations × contexts, %d cells predicted",
        output,
        len(read),
        pairs,
        sum(part.n_predicted for part in read),
    )
    return output


def _read(path: Path, group: Any) -> Part:
    from anndata.io import read_elem, sparse_dataset

    about = read_elem(group["uns"]).get("stateshift", {}) if "uns" in group else {}
    obs = read_table(group, "obs")
    if "scale" not in about or "run" not in about or "is_control" not in obs or obs["is_control"].diff()[1:].sum() > 1:
        raise StateshiftError(f"{path} is no prediction of stateshift: `stateshift predict` makes those.")
    return Part(path, group, sparse_dataset(group["X"]), obs, read_table(group, "var"), about)


def _about(parts: list[Part]) -> dict[str, Any]:
    """``uns["stateshift"]`` of all together; InputProblems where they don't belong together."""
    problems: list[str] = []
    about = _merged([part.about for part in parts], "", problems)
    first, seen = parts[0], set()
    for part in parts:
        if twice := sorted(seen & part.pairs()):
            problems.append(f"{part.path} predicts again: {some(f'{p} in {c}' for c, p in twice)}.")
        seen |= part.pairs()
        if not part.var.equals(first.var):
            problems.append(f"{part.path} and {first.path} have other genes.")
        for context in sorted({c for c, _ in part.pairs()} & {c for c, _ in first.pairs()}):
            ours, theirs = part.controls(context), first.controls(context)
            names = part.obs.index[ours].equals(first.obs.index[theirs])
            if not names or (part.X[ours] != first.X[theirs]).nnz:
                problems.append(f"{part.path} and {first.path} have other control cells of {context}.")
    if problems:
        raise InputProblems("These predictions can't be joined", problems)
    return about


def _merged(values: list[Any], key: str, problems: list[str]) -> Any:
    name = key.rpartition(".")[2]
    if name == "calibration":
        regimes = sorted({regime for value in values for regime in value})
        # pairs of one regime are calibrated on targets or on contexts: told is what rests on fewer
        return {r: min((v[r] for v in values if r in v), key=lambda told: told.get("units", 0)) for r in regimes}
    if name == "columns":
        # parts may start from files that call them otherwise
        return {role: column for role, column in values[0].items() if all(v.get(role) == column for v in values)}
    if isinstance(values[0], dict):
        keys = dict.fromkeys(k for value in values for k in value)
        lacking = [k for k in keys if any(k not in value for value in values)]
        problems += [f"one part has `{f'{key}.{k}'.lstrip('.')}`, another has none." for k in lacking]
        inner = {k: f"{key}.{name if name in PER_PAIR else k}" for k in keys if k not in lacking}
        return {k: _merged([value[k] for value in values], inner[k], problems) for k in inner}
    if name in PER_PAIR:
        return np.concatenate(values)
    if not all(np.array_equal(value, values[0]) for value in values[1:]):
        problems.append(f"`{key.lstrip('.')}` is not the same: {some(dict.fromkeys(str(v)[:40] for v in values), 3)}.")
    return values[0]


def _obs(parts: list[Part], holders: dict[str, Part]) -> pd.DataFrame:
    frames = [part.obs.iloc[: part.n_predicted] for part in parts]
    frames += [part.obs.iloc[part.controls(context)] for context, part in holders.items()]
    labels = [column for column in parts[0].obs if isinstance(parts[0].obs[column].dtype, pd.CategoricalDtype)]
    obs = pd.concat([frame.astype(dict.fromkeys(labels, str)) for frame in frames])
    return obs.astype(dict.fromkeys(labels, "category"))


def _write_embeddings(file: Path, parts: list[Part], holders: dict[str, Part]) -> None:
    import h5py
    from anndata.io import write_elem

    key = "X_predicted"
    if not all(key in part.group.get("obsm", {}) for part in parts):
        return
    arrays = [part.group["obsm"][key][: part.n_predicted] for part in parts]
    arrays += [part.group["obsm"][key][part.controls(context)] for context, part in holders.items()]
    with h5py.File(file, "a") as made:
        write_elem(made["obsm"], key, np.concatenate(arrays))
