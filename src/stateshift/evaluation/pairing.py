"""Predicted and true effects side by side: which pairs can be scored, and what could not be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.evaluation.inputs import Prediction, group_means
from stateshift.genes.doubles import any_order, misspelt_doubles

ORACLE = "mean of the truth (oracle)"
SEPARATOR = "\x1f"


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
    """

    genes: list[str]
    rows: pd.DataFrame
    true: np.ndarray
    models: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)
    intervals: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def match_doubles(prediction: Prediction, truth: Cells) -> tuple[Prediction, Cells, list[str]]:
    """Both sides with each set of genes under one name: ``A+B`` and ``B+A`` are one perturbation.

    The prediction's name stands. Where one side holds both orders, their cells are pooled and the stored
    effects of a baseline averaged.

    Returns
    -------
    tuple
        The prediction, the truth, and a sentence where names were matched.
    """
    _refuse_misspelt(prediction, truth)
    names: dict[str, str] = {}
    other: dict[str, str] = {}
    for cells in (prediction.cells, truth):
        for label in sorted(set(cells.obs["perturbation"]) - {cells.control}):
            name = names.setdefault(any_order(label), label)
            if name != label:
                other[label] = name
    if not other:
        return prediction, truth, []
    said = some([f"`{label}` is `{name}`" for label, name in other.items()], 4)
    return (
        replace(
            prediction,
            cells=_renamed(prediction.cells, other),
            baselines={model: _pooled(effects, other) for model, effects in prediction.baselines.items()},
            intervals={name: _pooled(of, other) for name, of in prediction.intervals.items()},
            regimes={(c, other.get(label, label)): regime for (c, label), regime in prediction.regimes.items()},
        ),
        _renamed(truth, other),
        [f"Doubles are matched whatever the order of their genes: {said}."],
    )


def _refuse_misspelt(prediction: Prediction, truth: Cells) -> None:
    """A double of the truth that is written ``A_B`` would count as not predicted."""
    labels = set(truth.obs["perturbation"]) - {truth.control}
    predicted = {gene for label in prediction.cells.obs["perturbation"].unique() for gene in label.split("+")}
    problems = misspelt_doubles(sorted(labels - predicted), {*prediction.cells.genes, *predicted})
    if problems:
        raise InputProblems("obs of the truth", problems)


def _pooled(of_pair: dict[tuple[str, str], np.ndarray], names: dict[str, str]) -> dict[tuple[str, str], np.ndarray]:
    """Arrays of pairs under other names, averaged where two names become one."""
    gathered: dict[tuple[str, str], list[np.ndarray]] = {}
    for (context, label), values in of_pair.items():
        gathered.setdefault((context, names.get(label, label)), []).append(values)
    return {pair: np.mean(found, axis=0) for pair, found in gathered.items()}


def _renamed(cells: Cells, names: dict[str, str]) -> Cells:
    labels = cells.obs["perturbation"]
    return replace(cells, obs=cells.obs.assign(perturbation=[names.get(label, label) for label in labels]))


def pair_up(prediction: Prediction, truth: Cells, where: str = "the truth") -> Pairing:
    """Effects of the pairs that both sides hold, against the truth's own controls on both sides.

    A baseline's effect is added to the control cells that the prediction carries, as the model's is: where
    those are not the truth's controls, their difference is part of every model's error, and a note says so.

    Parameters
    ----------
    prediction, truth
        Both sides on the same G genes, doubles under one name (`match_doubles`).
    where
        What the truth goes by in errors.

    Raises
    ------
    StateshiftError
        Scales differ; nothing is shared; a context has no controls in the truth; a baseline lacks a pair.
    """
    _same_scale(prediction, truth, where)
    notes: list[str] = []
    true_means, true_controls = _means(truth)
    predicted_means, predicted_controls = _means(prediction.cells)
    pairs = _shared_pairs(predicted_means, true_means, true_controls, truth, where, notes)
    rows = pd.DataFrame(pairs, columns=["context", "perturbation"])
    rows["route"] = _routes(prediction.cells, pairs)
    rows["regime"] = [prediction.regimes.get(pair, "") for pair in pairs]
    rows["n_predicted"] = [predicted_means[pair][1] for pair in pairs]
    rows["n_true"] = [true_means[pair][1] for pair in pairs]
    control = np.stack([true_controls[context] for context, _ in pairs])
    true = np.stack([true_means[pair][0] for pair in pairs]) - control
    models = {prediction.model: np.stack([predicted_means[pair][0] for pair in pairs]) - control}
    offsets = _control_offsets(rows["context"], predicted_controls, true_controls, notes)
    for name, effects in _baseline_effects(prediction, rows, true).items():
        models[_other_name(name, prediction.model)] = effects if name == ORACLE else effects + offsets
    return Pairing(
        list(prediction.cells.genes), rows, true, models, notes, _intervals(prediction, pairs, models, offsets)
    )


def _intervals(
    prediction: Prediction, pairs: list[tuple[str, str]], models: dict[str, np.ndarray], offsets: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By model; a prediction's centres are its stored effects: the cells' mean varies with the controls that were drawn."""
    if not prediction.intervals:
        return {}
    absent = np.full(offsets.shape[1], np.nan)
    stored = {name: np.stack([of.get(pair, absent) for pair in pairs]) for name, of in prediction.intervals.items()}
    found = {prediction.model: (stored["effects"] + offsets, stored["half_widths"])}
    mean = _other_name("mean", prediction.model)
    if mean in models:
        found[mean] = (models[mean], stored["of_mean"])
    return found


def _same_scale(prediction: Prediction, truth: Cells, where: str) -> None:
    if prediction.cells.scale != truth.scale:
        raise StateshiftError(
            f"The prediction is on the scale {prediction.cells.scale} and {where} on {truth.scale}: effects can't be "
            "compared. If the truth's scale is known, name it (--scale log1p_1e4); else normalise it alike."
        )


def _means(cells: Cells) -> tuple[dict[tuple[str, str], tuple[np.ndarray, int]], dict[str, np.ndarray]]:
    """(context, perturbation) → mean and number of cells; context → mean of its controls."""
    labels, means, counts = group_means(cells, cells.obs["context"] + SEPARATOR + cells.obs["perturbation"])
    groups, controls = {}, {}
    for label, mean, count in zip(labels, means, counts):
        context, perturbation = label.split(SEPARATOR)
        if perturbation == cells.control:
            controls[context] = mean
        else:
            groups[context, perturbation] = (mean, int(count))
    return groups, controls


def _shared_pairs(
    predicted: dict, true: dict, true_controls: dict, truth: Cells, where: str, notes: list[str]
) -> list[tuple[str, str]]:
    shared = sorted(set(predicted) & set(true))
    if not shared:
        raise StateshiftError(_nothing_shared(predicted, true, where))
    contexts = sorted({context for context, _ in shared})
    without = [context for context in contexts if context not in true_controls]
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


def _nothing_shared(predicted: dict, true: dict, where: str) -> str:
    predicted_contexts, true_contexts = ({context for context, _ in pairs} for pairs in (predicted, true))
    if not predicted:
        return "The prediction holds control cells only: there is nothing to score."
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


def _control_offsets(contexts: pd.Series, predicted: dict, true: dict, notes: list[str]) -> np.ndarray:
    """(R, G): the prediction's controls minus the truth's; zero where it carries none, or the same ones."""
    offsets, other = {}, []
    for context in contexts.unique():
        offset = predicted[context] - true[context] if context in predicted else np.zeros_like(true[context])
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


def _other_name(name: str, model: str) -> str:
    return f"{name} (baseline)" if name == model else name
