"""Predicted and true effects side by side: which pairs can be scored, and what could not be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.evaluation.pairing.groups import Groups, group_cells
from stateshift.evaluation.pairing.inputs import Prediction
from stateshift.feature_table import genes_of

ORACLE = "mean of the truth (oracle)"
Controls = Literal["truth", "own"]
"""Whose controls a prediction's effects are measured from."""


@dataclass
class Pairing:
    """Effects of the R (context, perturbation) pairs that both sides hold.

    Parameters
    ----------
    genes
        The G genes, in the prediction's order.
    rows
        R rows: ``context``, ``perturbation``, ``route``, ``regime``, ``n_predicted``, ``n_true`` (cells).
    true
        (R, G): mean of the true perturbed cells minus mean of the context's true controls, log1p.
    models
        Name → effects (R, G); the prediction first, then the baselines.
    notes
        Sentences on what was left out and why.
    intervals
        Name of the prediction and of its mean baseline → centres and half-widths of their intervals, (R, G) each, NaN
        where there is none; empty where the prediction gives no intervals.
    halves
        ``true`` and each prediction's name → (2, R, G) float32, effects of two random halves of its cells; NaN where a half has
        no cell.
    variance
        Likewise → (R,), variance of the cells of a pair, summed over genes; ``controls`` → that of the truth's controls.
    control_offsets
        Each prediction's name → context → (2, G): halves of the prediction's controls less halves of the truth's; no
        entry where it carries none.
    n_controls
        (R,): control cells of the truth behind each pair.
    """

    genes: list[str]
    rows: pd.DataFrame
    true: np.ndarray
    models: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)
    intervals: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    halves: dict[str, np.ndarray] = field(default_factory=dict)
    variance: dict[str, np.ndarray] = field(default_factory=dict)
    control_offsets: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    n_controls: np.ndarray | None = None


def own_targets(pairing: Pairing) -> list[list[int]]:
    """Of each pair the columns of the genes that it targets."""
    column = {gene: i for i, gene in enumerate(pairing.genes)}
    return [[column[g] for g in genes_of(p) if g in column] for p in pairing.rows["perturbation"]]


def pair_up(
    prediction: Prediction,
    truth: Cells,
    where: str = "the truth",
    controls: Controls = "truth",
    against: Prediction | None = None,
) -> Pairing:
    """Effects of the pairs that all sides hold, against the truth's own controls on every side.

    A baseline's effect is added to the control cells that the prediction carries, as the model's is: where
    those are not the truth's controls, their difference is part of every model's error, and a note says so.

    Parameters
    ----------
    prediction, truth
        Both sides on the same G genes, doubles under one name (`stateshift.evaluation.pairing.match_doubles`).
    where
        What the truth goes by in errors.
    controls
        ``own`` measures predicted effects from the prediction's own controls, as published scores do: what is
        wrong with those is not seen then.
    against
        A second prediction on the same genes, which stands among the models after the first.

    Raises
    ------
    StateshiftError
        Scales differ; nothing is shared; a context has no controls in the truth, or in the prediction where those
        count; a baseline lacks a pair.
    """
    notes: list[str] = []
    true = group_cells(truth)
    sides = {side.model: (side, group_cells(side.cells)) for side in (prediction, against) if side is not None}
    pairs = None
    for side, groups in sides.values():
        _same_scale(side, truth, where)
        shared = _shared_pairs(groups, true, truth, where, notes if side is prediction else [])
        pairs = shared if pairs is None else _in_both(pairs, shared, side.model, notes)
    rows = pd.DataFrame(pairs, columns=["context", "perturbation"])
    rows["route"] = _routes(prediction.cells, pairs)
    rows["regime"] = [prediction.regimes.get(pair, "") for pair in pairs]
    rows["n_predicted"] = _of(pairs, sides[prediction.model][1], "counts")
    rows["n_true"] = _of(pairs, true, "counts")
    pairing = Pairing(list(prediction.cells.genes), rows, _effects(pairs, true, true), {}, notes)
    pairing.halves["true"], pairing.variance["true"] = _halves(pairs, true, true), _of(pairs, true, "variance")
    controls_of = [(context, truth.control) for context in rows["context"]]
    pairing.variance["controls"], pairing.n_controls = (_of(controls_of, true, n) for n in ("variance", "counts"))
    for name, (_, groups) in sides.items():
        base = _base(groups, true, rows["context"], name) if controls == "own" else true
        pairing.models[name] = _effects(pairs, groups, base)
        pairing.halves[name], pairing.variance[name] = _halves(pairs, groups, base), _of(pairs, groups, "variance")
        pairing.control_offsets[name] = _control_halves(rows["context"], groups, true)
    own = sides[prediction.model][1]
    offsets = np.zeros_like(pairing.true)
    if controls == "truth":
        offsets = _control_offsets(rows["context"], own, true, notes)
    for name, effects in _baseline_effects(prediction, rows, pairing.true).items():
        pairing.models[_other_name(name, sides)] = effects if name == ORACLE else effects + offsets
    pairing.intervals = _intervals(prediction, pairs, pairing.models, offsets)
    return pairing


def _of(pairs: list[tuple[str, str]], groups: Groups, what: str) -> np.ndarray:
    return getattr(groups, what)[[groups.place[pair] for pair in pairs]]


def _effects(pairs: list[tuple[str, str]], groups: Groups, base: Groups) -> np.ndarray:
    """(R, G): means less those of the controls."""
    return _of(pairs, groups, "means") - base.means[[base.controls(context) for context, _ in pairs]]


def _halves(pairs: list[tuple[str, str]], groups: Groups, base: Groups) -> np.ndarray:
    """(2, R, G): of two halves, each less its own half of the controls."""
    controls = base.halves[[base.controls(context) for context, _ in pairs]]
    # one control cell has no second half: it is everyone's
    controls[:, 1] = np.where(np.isnan(controls[:, 1]), controls[:, 0], controls[:, 1])
    return (_of(pairs, groups, "halves") - controls).transpose(1, 0, 2)


def _control_halves(contexts: pd.Series, groups: Groups, true: Groups) -> dict[str, np.ndarray]:
    there = [context for context in contexts.unique() if groups.controls(context) is not None]
    return {c: groups.halves[groups.controls(c)] - true.halves[true.controls(c)] for c in there}


def _base(groups: Groups, true: Groups, contexts: pd.Series, name: str) -> Groups:
    """The groups that a prediction's own controls lie in."""
    without = [context for context in contexts.unique() if groups.controls(context) is None]
    if without:
        raise StateshiftError(
            f"{name} carries no control cells (`{groups.control}`) in {some(without)}: leave --controls own out, "
            "and effects are measured from the truth's."
        )
    return groups


def _in_both(
    pairs: list[tuple[str, str]], others: list[tuple[str, str]], name: str, notes: list[str]
) -> list[tuple[str, str]]:
    known = set(others)
    kept = [pair for pair in pairs if pair in known]
    lacking = [f"{p} in {c}" for c, p in pairs if (c, p) not in known]
    if not kept:
        raise StateshiftError(f"{name} predicts nothing that the first prediction and the truth both hold.")
    if lacking:
        notes.append(f"{name} lacks {len(lacking)} pairs, which are scored for no model: {some(lacking, 4)}.")
    return kept


def _intervals(
    prediction: Prediction, pairs: list[tuple[str, str]], models: dict[str, np.ndarray], offsets: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By model; a prediction's centres are its stored effects: the cells' mean varies with the controls that were drawn."""
    if not prediction.intervals:
        return {}
    absent = np.full(offsets.shape[1], np.nan)
    stored = {name: np.stack([of.get(pair, absent) for pair in pairs]) for name, of in prediction.intervals.items()}
    found = {prediction.model: (stored["effects"] + offsets, stored["half_widths"])}
    mean = "mean (baseline)" if "mean (baseline)" in models else "mean"
    if mean in models and mean != prediction.model:
        found[mean] = (models[mean], stored["of_mean"])
    return found


def _same_scale(prediction: Prediction, truth: Cells, where: str) -> None:
    if prediction.cells.scale != truth.scale:
        raise StateshiftError(
            f"The prediction is on the scale {prediction.cells.scale} and {where} on {truth.scale}: effects can't be "
            "compared. If the truth's scale is known, name it (--scale log1p_1e4); else normalise it alike."
        )


def _shared_pairs(
    predicted_groups: Groups, true_groups: Groups, truth: Cells, where: str, notes: list[str]
) -> list[tuple[str, str]]:
    predicted, true = (
        {pair for pair in groups.place if pair[1] != groups.control} for groups in (predicted_groups, true_groups)
    )
    shared = sorted(predicted & true)
    if not shared:
        raise StateshiftError(_nothing_shared(predicted, true, where, truth.control))
    contexts = sorted({context for context, _ in shared})
    without = [context for context in contexts if true_groups.controls(context) is None]
    if without:
        raise InputProblems(
            where,
            [f"context `{c}` has no control cells (`{truth.control}`): its effects can't be known." for c in without],
        )
    for context in sorted({c for c, _ in predicted}):
        absent = sorted(p for c, p in predicted if c == context and (c, p) not in true)
        if absent:
            notes.append(f"{context}: predicted and not in the truth, so not scored: {some(absent)}.")
    unseen = {c: sorted(p for d, p in true if d == c and (c, p) not in predicted) for c in contexts}
    if any(unseen.values()):
        counts = ", ".join(f"{len(names)} in {context}" for context, names in unseen.items() if names)
        every = sorted(set().union(*unseen.values()))
        notes.append(f"In the truth and not predicted: {counts} ({some(every, 4)}).")
    alone = [context for context in contexts if sum(c == context for c, _ in shared) < 2]
    if alone:
        notes.append(f"PDS needs two perturbations to tell apart: with one it is left empty in {some(alone)}.")
    return shared


def _nothing_shared(predicted: set, true: set, where: str, control: str) -> str:
    predicted_contexts, true_contexts = ({context for context, _ in pairs} for pairs in (predicted, true))
    if not predicted:
        return (
            f"The prediction holds control cells (`{control}`) only: there is nothing to score. What its other cells are "
            "stands in the truth's column of perturbations, or in target_gene and context."
        )
    if not predicted_contexts & true_contexts:
        name = min(predicted_contexts)
        return (
            f"No context is both predicted and in {where}: `{name}` is not there{suggestion(name, true_contexts)}. "
            "Contexts are matched by name; --cell-type-key names the truth's column."
        )
    name = min(perturbation for _, perturbation in predicted)
    return (
        f"No perturbation is both predicted and in {where} in a shared context: `{name}` is not there"
        f"{suggestion(name, (p for _, p in true))}."
    )


def _routes(cells: Cells, pairs: list[tuple[str, str]]) -> list[str]:
    first = cells.obs.drop_duplicates(["context", "perturbation"]).set_index(["context", "perturbation"])["route"]
    return [str(first[pair]) for pair in pairs]


def _control_offsets(contexts: pd.Series, own: Groups, true: Groups, notes: list[str]) -> np.ndarray:
    """(R, G): the prediction's controls minus the truth's; zero where it carries none, or the same ones."""
    offsets, other = {}, []
    for context in contexts.unique():
        here, there = own.controls(context), true.controls(context)
        offset = np.zeros(true.means.shape[1]) if here is None else own.means[here] - true.means[there]
        # the same cells summed in another order differ in the last digits alone
        same = np.abs(offset).max() < 1e-6
        offsets[context] = np.zeros_like(offset) if same else offset
        if not same:
            other.append(f"{context} (means differ by {np.abs(offset).mean():.3g})")
    if other:
        notes.append(
            f"The prediction's control cells are not the truth's in {some(other)}: effects are measured from the "
            "truth's, so that difference is part of every model's score there, that of `control` included."
        )
    return np.stack([offsets[context] for context in contexts])


def _baseline_effects(prediction: Prediction, rows: pd.DataFrame, true: np.ndarray) -> dict[str, np.ndarray]:
    pairs = list(zip(rows["context"], rows["perturbation"]))
    if not prediction.baselines:
        oracle = np.empty_like(true)
        for _, members in rows.groupby("context").groups.items():
            oracle[members] = true[members].mean(axis=0)
        return {"control": np.zeros_like(true), ORACLE: oracle}
    found = {}
    for name, effects in prediction.baselines.items():
        lacking = [f"{p} in {c}" for c, p in pairs if (c, p) not in effects]
        if lacking:
            raise StateshiftError(f"The prediction's baseline `{name}` lacks {some(lacking)}: predict again.")
        found[name] = np.stack([effects[pair] for pair in pairs])
    return found


def _other_name(name: str, models: Collection[str]) -> str:
    return f"{name} (baseline)" if name in models else name
