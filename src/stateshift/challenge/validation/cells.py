"""Checks of what the cells are: copies, empty, all alike, or under another context's name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stateshift.challenge.facts import CellFacts
from stateshift.challenge.validation.outcome import Validation
from stateshift.errors import some

TOLD_APART = 4.0
"""Squared distance of two contexts' controls, in what sampling of cells alone makes of it, from which they differ."""
LEAST_VARIANCE = 0.05
"""Share of the controls' variance between cells below which a population counts as collapsed: sampling of counts alone
leaves more."""


def check_cells(outcome: Validation, facts: CellFacts, control: str, real: CellFacts | None) -> None:
    """Empty cells and populations, copies of controls and of each other, and variance between cells.

    Parameters
    ----------
    facts
        Of the cells that are handed in, all context's names as in the file.
    control
        The control's label in them.
    real
        The season's control cells where the file holds none, on the prediction's genes.
    """
    is_control = np.array([label == control for _, label in facts.groups])
    perturbed = ~is_control[facts.of_group]
    _check_empty(outcome, facts, ~is_control)
    unlike = real is not None and real.fractions.any() != facts.fractions.any()
    controls = _controls(facts, is_control, None if unlike else real)
    if controls is None:
        why = "the control cells are on another scale" if unlike else "no control cells to compare with"
        outcome.leave_open("differ from controls", f"{why}: name {'others' if unlike else 'them'} with --controls")
    else:
        _check_copies(outcome, facts, ~is_control, *controls)
    _check_repeats(outcome, facts, perturbed)
    _check_variance(outcome, facts, ~is_control, None if controls is None else controls[2])


def _controls(
    facts: CellFacts, is_control: np.ndarray, real: CellFacts | None
) -> tuple[np.ndarray, pd.DataFrame, dict[str, float]] | None:
    """The control cells' digests, means by context, and variance by context; None where there are none."""
    source, mask = (facts, is_control) if is_control.any() else (real, None)
    if source is None:
        return None
    mask = np.ones(len(source.groups), bool) if mask is None else mask
    contexts = [c for (c, _), one in zip(source.groups, mask) if one]
    means = pd.DataFrame(source.means()[mask], index=contexts)
    variance = dict(zip(contexts, source.variance()[mask].tolist()))
    return source.digests[mask[source.of_group]], means, variance


def _check_empty(outcome: Validation, facts: CellFacts, predicted: np.ndarray) -> None:
    stored = np.bincount(facts.of_group, facts.stored, minlength=len(facts.groups))
    nothing = (stored == 0) & predicted
    problem = f"{int(nothing.sum())} hold nothing but zeros: {some(facts.spelling(nothing))}" if nothing.any() else None
    outcome.add("no empty perturbation", problem, "every one expresses something")
    empty = (facts.stored == 0) & ~nothing[facts.of_group]
    names = facts.spelling(np.bincount(facts.of_group[empty], minlength=len(facts.groups)) > 0)
    problem = f"{int(empty.sum()):,} cells hold nothing but zeros ({some(names)})" if empty.any() else None
    outcome.add("no empty cells", problem, "every cell expresses something", status="warn")


def _check_copies(
    outcome: Validation,
    facts: CellFacts,
    predicted: np.ndarray,
    digests: np.ndarray,
    means: pd.DataFrame,
    variance: dict[str, float],
) -> None:
    copied = np.isin(facts.digests.view("S16"), digests.view("S16")) & predicted[facts.of_group] & (facts.stored > 0)
    share = np.bincount(facts.of_group, copied, minlength=len(facts.groups)) / facts.sizes
    wholly = (share == 1) & predicted
    of = [c if c in means.index else means.index[0] for c, _ in facts.groups]
    same = np.abs(facts.means() - means.loc[of].to_numpy()).max(axis=1) < 1e-6
    pasted = same & predicted & ~wholly
    said = []
    if wholly.any():
        said.append(
            f"{int(wholly.sum()):,} perturbations are copies of control cells and predict nothing: {some(facts.spelling(wholly))}"
        )
    if pasted.any():
        said.append(
            f"{int(pasted.sum()):,} have the controls' very mean and predict nothing: {some(facts.spelling(pasted))}"
        )
    partly = int(copied.sum())
    outcome.add(
        "differ from controls",
        "; ".join(said) or None,
        f"{partly:,} predicted cells equal a control cell" if partly else "all do",
    )


def _check_repeats(outcome: Validation, facts: CellFacts, perturbed: np.ndarray) -> None:
    """Cells that stand in the file more than once, under one name or several: allowed, and worth knowing."""
    cells = pd.DataFrame({"digest": facts.digests.view("S16"), "group": facts.of_group})[perturbed & (facts.stored > 0)]
    by = cells.groupby("digest")["group"]
    elsewhere, repeats = by.transform("nunique") > 1, by.transform("size") > 1
    said = []
    if elsewhere.any():
        named = facts.spelling(np.isin(np.arange(len(facts.groups)), cells["group"][elsewhere]))
        said.append(f"{int(elsewhere.sum()):,} cells stand under several targets or contexts: {some(named, 4)}")
    within = int((repeats & ~elsewhere).sum())
    said += [f"{within:,} cells stand more than once under one"] if within else []
    outcome.add("no cell twice", "; ".join(said) or None, "every predicted cell is its own", status="warn")


def _check_variance(outcome: Validation, facts: CellFacts, predicted: np.ndarray, of_controls: dict | None) -> None:
    """A population that varies far less than controls is a pasted pseudobulk, which significance metrics punish."""
    variance, several = facts.variance(), facts.sizes > 1
    of_controls = {c: v for c, v in (of_controls or {}).items() if v > 0}
    usual = np.array([of_controls.get(c, np.nan) for c, _ in facts.groups])
    if of_controls and np.isnan(usual).all():
        usual = np.full(len(usual), np.mean(list(of_controls.values())))
    ratio = variance / usual
    flat = predicted & several & ((variance <= 1e-12) | (ratio < LEAST_VARIANCE))
    problem = None
    if flat.any():
        problem = f"the cells of {int(flat.sum()):,} perturbations are (nearly) all alike, as pasted means are: {some(facts.spelling(flat))}"
    known = ratio[predicted & several & np.isfinite(ratio)]
    detail = f"{np.median(known):.2f} times the controls', {known.min():.2f} at least" if len(known) else "cells differ"
    outcome.add("variance", problem, detail, status="warn")


def check_contexts(outcome: Validation, facts: CellFacts, real: CellFacts | None, scale: str | None) -> None:
    """Whether each context's predictions are most like that context's controls: swapped labels show no other way."""
    name = "contexts' labels"
    if real is None:
        outcome.leave_open(name, "no control cells to compare with: name them with --controls")
        return
    contexts = [c for c, _ in real.groups]
    predicted = [c for c, _ in facts.groups]
    strange = sorted(set(predicted) - set(contexts))
    if strange or len(contexts) < 2:
        outcome.leave_open(name, f"the control cells are of {some(contexts)} alone")
        return
    alike = _alike(real, contexts)
    if alike is not None:
        outcome.leave_open(name, f"the control cells of {alike} are too alike to tell them apart")
        return
    from_controls = _correlations(
        _profile(facts.means(), scale == "counts"), _profile(real.means(), not real.fractions.any())
    )
    nearest = np.array(contexts)[from_controls.argmax(axis=1)]
    said = []
    for context in dict.fromkeys(predicted):
        of = nearest[[c == context for c in predicted]]
        others, counts = np.unique(of[of != context], return_counts=True)
        if len(others) and counts.max() > len(of) / 2:
            said.append(
                f"{counts.max():,} of {len(of):,} targets in {context} are most like the controls of {others[counts.argmax()]}"
            )
    own = int((nearest == np.array(predicted)).sum())
    outcome.add(
        name,
        "; ".join(said) + ": swapped?" if said else None,
        f"{own:,} of {len(predicted):,} populations are most like their own context's controls",
    )


def _alike(real: CellFacts, contexts: list[str]) -> str | None:
    """Two contexts whose controls differ by no more than a few times what sampling makes of their means."""
    means, sizes = real.means(), real.sizes
    noise = np.maximum(real.squares / sizes[:, None] - means**2, 0).sum(axis=1) / sizes
    for i, first in enumerate(contexts):
        distance = ((means[i] - means[i + 1 :]) ** 2).sum(axis=1)
        near = np.flatnonzero(distance < TOLD_APART * (noise[i] + noise[i + 1 :]))
        if len(near):
            return f"{first} and {contexts[i + 1 + near[0]]}"
    return None


def _profile(means: np.ndarray, are_counts: bool) -> np.ndarray:
    """Mean expression as log1p of 1e4 a cell (K, G)."""
    if not are_counts:
        return means
    return np.log1p(1e4 * means / np.maximum(means.sum(axis=1, keepdims=True), 1e-12))


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's between rows (K, M)."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return a @ b.T
