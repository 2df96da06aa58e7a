"""The two sides of an evaluation as cells: a prediction and the truth, on one gene axis and one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from stateshift.cells import Cells, Columns, find_columns
from stateshift.cells.columns import CELL_TYPE, CONTROL, PERTURBATION
from stateshift.cells.labels import single_names, standard_obs
from stateshift.cells.loading import CellFile, matrix_on_genes, read_file
from stateshift.cells.matrix.expression import Expression
from stateshift.cells.matrix.scale import to_log1p
from stateshift.errors import InputProblems, StateshiftError, some

if TYPE_CHECKING:
    from anndata import AnnData


ROLES = ("perturbation", "cell_type", "control")
"""Of the names by which a truth's cells are found."""


@dataclass(frozen=True)
class Outline:
    """What a prediction says before its matrix is read.

    Parameters
    ----------
    genes
        Its genes.
    context
        Its context if it has exactly one, for a truth that doesn't name its own.
    made_with
        The perturbation's and the cell type's columns of the cells that it was made from, and their control, as far as it
        names them.
    """

    genes: list[str]
    context: str | None
    made_with: dict[str, str]


@dataclass
class Prediction:
    """Predicted cells and what their file says of them.

    Parameters
    ----------
    cells
        Log1p; ``obs`` also has ``route`` ("" where the file names none).
    model
        The model's name for tables.
    baselines
        Name → {(context, perturbation): effect (G,)}; empty where the file holds none.
    simulated
        Whether the file says that its cells are simulated.
    intervals
        ``effects``, ``half_widths`` and ``of_mean`` → {(context, perturbation): (G,)}: the centres and half-widths of
        its intervals, and the half-widths of its mean baseline's; empty where the file gives none.
    regimes
        (context, perturbation) → regime; empty as above.
    level
        The share of effects that the intervals are to hold.
    """

    cells: Cells
    model: str
    baselines: dict[str, dict[tuple[str, str], np.ndarray]] = field(default_factory=dict)
    simulated: bool = False
    intervals: dict[str, dict[tuple[str, str], np.ndarray]] = field(default_factory=dict)
    regimes: dict[tuple[str, str], str] = field(default_factory=dict)
    level: float = float("nan")


def stored_cells(source: Path | str | AnnData, name: str) -> CellFile:
    """A file or an AnnData in memory as one kind of thing; an AnnData goes by `name` in errors."""
    if isinstance(source, str | Path):
        return read_file(source)
    genes = [str(g) for g in source.var_names]
    if len(set(genes)) != len(genes):
        twice = source.var_names[source.var_names.duplicated()].unique()
        raise StateshiftError(f"{name}: var_names hold {some(twice, 4)} more than once.")
    uns = {key: held for key, held in source.uns.items() if key != "stateshift" or isinstance(held, Mapping)}
    X = (source.to_memory() if source.isbacked else source).X
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()  # two values of one place are one, which logarithms don't sum to
    return CellFile(Path(name), source.obs, genes, uns, X)


def read_prediction(source: Path | str | AnnData, declared: Mapping[str, str | None], truth: Cells) -> Prediction:
    """A prediction as in docs/contracts.md, or any tool's cells with a perturbation column.

    Parameters
    ----------
    source
        ``obs["target_gene"]``, ``obs["context"]`` and ``uns["stateshift"]`` are read where they are there;
        else columns are those declared for the truth, or go by convention.
    declared
        The truth's ``perturbation``, ``cell_type`` and ``control`` as the user named them.
    truth
        Names the context of a file that has no such column, and the control of one that doesn't say.

    Raises
    ------
    StateshiftError
        NaN, negative values or a scale that the values contradict; no perturbation column.
    """
    stored = stored_cells(source, "the prediction")
    where, about = str(stored.path), dict(stored.uns.get("stateshift", {}))
    # what the user said of the truth holds for a prediction that says and proves nothing of its own
    said = None if declared.get("scale") == "counts" or about else declared.get("scale")
    X, scale, _ = to_log1p(stored.X, stored.uns, said, where)
    obs = stored.obs
    contexts = truth.obs["context"].unique()
    if about and {"target_gene", "context"} <= set(obs.columns):
        columns = {"perturbation": "target_gene", "cell_type": "context"}
    else:
        columns = {r: c for r, c in declared.items() if r in ("perturbation", "cell_type") and c in obs.columns}
    if "cell_type" not in columns and not set(CELL_TYPE) & set(obs.columns) and len(contexts) == 1:
        obs = obs.assign(context=contexts[0])
    named = find_columns(obs, columns, where, needs_control=False)
    if "control" in about or truth.control in set(obs[named.perturbation].astype(str)):
        named = replace(named, control=str(about.get("control", truth.control)))
    frame = standard_obs(obs, named, "", Path(where).name)
    # a file without control cells says by no label what its control is called
    frame["perturbation"] = single_names(frame["perturbation"], CONTROL)
    frame["route"] = obs["route"].astype(str).to_numpy() if "route" in obs.columns else ""
    model = str(about.get("model", Path(where).stem))
    cells = Cells(Expression([X]), frame, stored.genes, named.control, scale)
    simulated = bool(about.get("simulated", False))
    return Prediction(
        cells, model, _baselines(about, where, stored.genes), simulated, *_intervals(about, where, stored.genes)
    )


def read_truth(
    source: Path | str | AnnData,
    declared: Mapping[str, str | None],
    genes: list[str],
    only_context: str | None = None,
    made_with: Sequence[Mapping[str, str]] = (),
) -> tuple[Cells, Columns, list[str]]:
    """Measured cells, log1p, on the prediction's genes; columns as declared, as predicted with, or by convention.

    Counts are cut to those genes before they are brought to 1e4 a cell, as the prediction's own were: the same
    cells get the same values on both sides.

    Parameters
    ----------
    source
        ``X`` holds counts or log1p expression.
    declared
        Any of ``perturbation``, ``cell_type``, ``control``, ``scale``.
    genes
        The prediction's genes.
    only_context
        The context of all cells, for a file without such a column.
    made_with
        What each prediction was made with (`Outline`): it stands where nothing is declared and the truth has it.

    Returns
    -------
    tuple
        The cells, their columns, and a sentence where genes were left out.

    Raises
    ------
    StateshiftError
        A column, the controls or genes are absent; predictions were made with several columns that are all there; NaN,
        negative values or an unclear scale.
    """
    stored = stored_cells(source, "the truth")
    where, obs = str(stored.path), stored.obs
    columns = _as_predicted(obs, declared, made_with, where)
    if "cell_type" not in columns and not set(CELL_TYPE) & set(obs.columns) and only_context is not None:
        obs = obs.assign(context=only_context)
    try:
        named = find_columns(obs, columns, where)
    except InputProblems as error:
        # there is no TOML here, which the reader of columns speaks of
        made = [f"\n  A prediction was made with {_told(names)}." for names in made_with if names]
        raise StateshiftError(
            f"{error}\n  Here the flags --pert-col, --cell-type-key, --control-pert do it.{''.join(dict.fromkeys(made))}"
        ) from error
    X, scale, found = matrix_on_genes(stored, genes, declared.get("scale"))
    extra = len(stored.genes) - len(genes)
    before = " before its counts were brought to 1e4 a cell" if found == "counts" else ""
    notes = [f"{extra:,} genes of the truth are not predicted and were left out{before}."] if extra else []
    labels = standard_obs(obs, named, "", Path(where).name)
    return Cells(Expression([X]), labels, list(genes), named.control, scale), named, notes


def _as_predicted(
    obs: pd.DataFrame, declared: Mapping[str, str | None], made_with: Sequence[Mapping[str, str]], where: str
) -> dict[str, str]:
    """The names that are declared, and for want of them those of the predictions that the truth has too."""
    names = {role: declared[role] for role in ROLES if declared.get(role) is not None}
    problems = []
    for role in [role for role in ROLES if role not in names]:
        there = set(obs.columns)
        if role == "control":
            column = names.get("perturbation", next((c for c in PERTURBATION if c in there), None))
            there = {str(v) for v in obs[column].unique()} if column in there else set()
        found = list(dict.fromkeys(made[role] for made in made_with if made.get(role) in there))
        if len(found) > 1:
            flag = {"perturbation": "--pert-col", "cell_type": "--cell-type-key", "control": "--control-pert"}[role]
            told = " and ".join(f"`{name}`" for name in found)
            problems.append(
                f"the predictions found the {role.replace('_', ' ')} under {told}: say by {flag} which holds here."
            )
        if found:
            names[role] = found[0]
    if problems:
        raise InputProblems(where, problems)
    return names


def _told(names: Mapping[str, str]) -> str:
    return ", ".join(f"{role.replace('_', ' ')} `{names[role]}`" for role in ROLES if role in names)


def outline(source: Path | str | AnnData) -> Outline:
    """What a prediction says before its matrix is read."""
    is_file = isinstance(source, str | Path)
    stored = read_file(source, with_matrix=False) if is_file else stored_cells(source, "the prediction")
    column = next((c for c in ("context", *CELL_TYPE) if c in stored.obs.columns), None)
    contexts = [] if column is None else stored.obs[column].astype(str).unique()
    about = dict(stored.uns.get("stateshift", {}))
    made_with = {str(role): str(name) for role, name in dict(about.get("columns", {})).items()}
    if "control" in about:
        made_with["control"] = str(about["control"])
    return Outline(stored.genes, str(contexts[0]) if len(contexts) == 1 else None, made_with)


def _baselines(about: Mapping[str, Any], where: str, genes: list[str]) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    stored = about.get("baselines")
    if not stored:
        return {}
    contexts, targets = (np.asarray(stored[key]).astype(str) for key in ("context", "target_gene"))
    pairs = list(zip(contexts.tolist(), targets.tolist()))
    stored_genes = np.asarray(stored.get("genes", genes)).astype(str).tolist()
    position = pd.Index(stored_genes).get_indexer(genes)
    found = {}
    for name, effects in stored["effects"].items():
        effects = np.asarray(effects, dtype=np.float64)
        fits = effects.shape == (len(pairs), len(stored_genes)) and (position >= 0).all()
        if not fits or not np.isfinite(effects).all():
            raise StateshiftError(
                f'{where}: uns["stateshift"]["baselines"] holds for `{name}` an array {effects.shape} where finite '
                f"values ({len(pairs)}, {len(genes)}) are needed: predict again."
            )
        # cutting or reordering an AnnData leaves its uns as it was
        found[str(name)] = dict(zip(pairs, effects[:, position]))
    return found


def _intervals(about: Mapping[str, Any], where: str, genes: list[str]) -> tuple[dict, dict, float]:
    """Centres and half-widths by pair, regimes by pair, and the level."""
    stored = about.get("intervals")
    if not stored:
        return {}, {}, float("nan")
    contexts, targets = (np.asarray(stored[key]).astype(str) for key in ("context", "target_gene"))
    pairs = list(zip(contexts.tolist(), targets.tolist()))
    stored_genes = np.asarray(stored["genes"]).astype(str).tolist()
    position = pd.Index(stored_genes).get_indexer(genes)
    arrays = {name: np.asarray(stored[name]) for name in ("effects", "half_widths", "of_mean")}
    if any(a.shape != (len(pairs), len(stored_genes)) for a in arrays.values()) or (position < 0).any():
        raise StateshiftError(
            f'{where}: uns["stateshift"]["intervals"] does not fit its pairs and the genes of X: predict again.'
        )
    by_pair = {name: dict(zip(pairs, of[:, position])) for name, of in arrays.items()}
    return by_pair, dict(zip(pairs, np.asarray(stored["regime"]).astype(str).tolist())), float(stored["level"])
