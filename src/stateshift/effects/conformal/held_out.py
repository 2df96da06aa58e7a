"""Training rows as predicted by an effect model that had not seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.main_effects import fit_main_effects
from stateshift.effects.models import EffectModel, effect_model
from stateshift.effects.own_target import fit_own_target, set_apart
from stateshift.effects.stack import HeldOut, Stack
from stateshift.effects.stack.folds import regime_folds
from stateshift.effects.stack.members import KINDS
from stateshift.effects.stack.row_space import RowSpace
from stateshift.feature_table import FeatureTable
from stateshift.files import intact, read_arrays, written_beside
from stateshift.progress import track


def hold_out(
    name: str,
    model: EffectModel,
    train: EffectTable,
    features: FeatureTable | None,
    regime: str,
    seed: int = 0,
    new_context: bool = False,
) -> HeldOut | None:
    """Predict training rows by models fitted on the others, in the manner of a regime.

    Parameters
    ----------
    name
        As `stateshift.effects.effect_model` knows it.
    model
        That model, fitted on all rows; a stack brings its own held-out rows, unless it held pairs out for ``C`` where
        contexts are asked for: these it then predicts by the weights that it has.
    train, features, seed
        What it was fitted on.
    regime
        ``C``, ``T`` or ``J`` (`stateshift.cells.REGIMES`).
    new_context
        Whether ``C`` is a known target in a context that no row is of, and so holds whole contexts out.

    Returns
    -------
    HeldOut or None
        None where the training rows can't imitate the regime, as ``C`` with one context.
    """
    if isinstance(model, Stack) and not (regime == "C" and new_context and _knows_its_contexts_alone(model)):
        return model.held_out.get(regime)
    folds = regime_folds(train, seed, new_context).get(regime)
    if not folds:
        return None
    if isinstance(model, Stack):
        fit = partial(_refitted, model)
    else:
        # choosing anew in each fold costs the most, and moves little
        chosen = KINDS[name].chosen if name in KINDS else ()
        settled: dict[str, Any] = {key: getattr(model, key) for key in chosen}
        fit = partial(effect_model(name), **settled)
    rows = np.concatenate([held for _, held in folds])
    predicted = np.full((len(rows), len(train.genes)), np.nan, dtype=np.float32)
    start = 0
    for kept, held in track(folds, f"{name} on rows held out ({regime})"):
        mask = np.zeros(len(train), dtype=bool)
        mask[kept] = True
        part = train.rows(mask)
        measured = np.flatnonzero(part.measured.any(axis=0))
        fitted = fit(part.columns(part.measured.any(axis=0)), features, seed)
        made = fitted.predict([train.perturbations[i] for i in held], [train.contexts[i] for i in held])
        predicted[start : start + len(held), measured] = made
        start += len(held)
    names = [train.perturbations[i] for i in rows], [train.contexts[i] for i in rows]
    return HeldOut(*names, train.effects[rows], predicted)


def _knows_its_contexts_alone(stack: Stack) -> bool:
    """Whether a stack was told of no context but those of its rows, so that it held pairs out for ``C``."""
    return set(stack.train.contexts).issuperset(stack.train.control_means)


def _refitted(stack: Stack, part: EffectTable, features: FeatureTable | None, seed: int) -> Stack:
    """A stack of the same weights and choices fitted on some of its rows, that knows the control cells of no other context."""
    own = {c: mean for c, mean in part.control_means.items() if c in set(part.contexts)}
    part = replace(part, control_means=own)
    space = RowSpace.of(set_apart(part))
    members = {name: member for name, member in stack.members.items() if stack.weights["C"].get(name)}
    if "transfer" in members:
        members["transfer"] = replace(members["transfer"], chosen=members["transfer"].chosen | {"controls": own})
    main = fit_main_effects(space.table)
    fitted = {name: member.fit(space.table, main, seed) for name, member in members.items()}
    return Stack(stack.weights, {}, part, space, main, members, fitted, fit_own_target(part))


def save_held_out(held: HeldOut, genes: Sequence[str], path: str | Path) -> None:
    """Write one ``.npz`` of plain arrays (no pickle)."""
    names = {"perturbations": held.perturbations, "contexts": held.contexts, "genes": list(genes)}
    with written_beside(path, overwrite=True) as part, open(part, "wb") as handle:
        np.savez_compressed(
            handle,
            true=held.true.astype(np.float32),
            predicted=held.predicted.astype(np.float32),
            **{key: np.array(value, dtype=str) for key, value in names.items()},
        )


def load_held_out(path: str | Path) -> tuple[HeldOut, list[str]]:
    """Read what `save_held_out` wrote, and its genes; a StateshiftError where it is damaged."""
    texts, way_out = ("perturbations", "contexts", "genes"), "Copy the run anew, or train again."
    stored = read_arrays(path, texts, way_out)
    with intact(path, way_out):
        perturbations, contexts, genes = (stored[name].tolist() for name in texts)
        shape = (len(perturbations), len(genes))
        if len(contexts) != shape[0] or any(stored[name].shape != shape for name in ("true", "predicted")):
            raise ValueError(f"its arrays are not of {shape[0]} pairs and {shape[1]} genes")
        return HeldOut(perturbations, contexts, stored["true"], stored["predicted"]), genes
