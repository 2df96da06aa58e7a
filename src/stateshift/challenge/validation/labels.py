"""Checks of columns, contexts, controls, targets and numbers of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stateshift.challenge.candidate import CONTEXT, Candidate
from stateshift.challenge.lists import Panel, Targets
from stateshift.challenge.validation.outcome import Validation
from stateshift.errors import some, suggestion


def wanted_rows(outcome: Validation, found: Candidate, panel: Panel | None) -> np.ndarray:
    """Check the contexts and choose the cells that are handed in, a mask (n,).

    A season of one context takes the one that is named of a prediction of several. Control cells stay out where the
    season wants none.
    """
    rules = outcome.season.cells
    have = [] if found.contexts is None else sorted(set(found.contexts) - {""})
    wanted = np.ones(found.n, bool)
    if rules.context is None:
        wanted = _one_context(outcome, found, have, panel)
    else:
        _every_context(outcome, found, have, panel)
    return wanted if rules.controls else wanted & ~found.is_control


def _one_context(outcome: Validation, found: Candidate, have: list[str], panel: Panel | None) -> np.ndarray:
    named = panel.contexts if panel is not None and panel.where == "--contexts" else []
    problem, status = None, "fail"
    if len(named) > 1:
        problem = f"the season's file holds one context, and --contexts names {len(named)}"
    elif not named and len(have) > 1:
        problem = f"the prediction holds {len(have)} contexts ({some(have)}): choose one with --contexts"
        status = "fail" if CONTEXT in found.columns else "warn"  # another column may be of other use
    elif named and named[0] not in have:
        problem = f"no cell has the context `{named[0]}`{suggestion(named[0], have)}"
    outcome.add("context", problem, some(named or have) or "not named in the file", status)
    return found.contexts == named[0] if named and found.contexts is not None else np.ones(found.n, bool)


def _every_context(outcome: Validation, found: Candidate, have: list[str], panel: Panel | None) -> None:
    column = outcome.season.cells.context
    if found.contexts is None:
        problem = f"obs has no column `{column}`; it has {', '.join(found.columns) or 'none'}"
        outcome.add("contexts", problem, "")
        return
    if panel is None:
        problem = (
            f"which contexts the season wants isn't known (the file has {some(have)}): keep manifest.json beside the lists, "
            "or name them with --contexts"
        )
        outcome.add("contexts", problem, "")
        return
    missing, extra = [c for c in panel.contexts if c not in have], [c for c in have if c not in panel.contexts]
    unnamed = int((found.contexts == "").sum())
    said = [panel.problem] if panel.problem else []
    said += [f"{some(missing)} is not predicted" if len(missing) == 1 else f"{some(missing)} are not predicted"] * bool(
        missing
    )
    said += [f"the season ({panel.where}) has no {some(extra)}{suggestion(extra[0], panel.contexts)}"] if extra else []
    said += [f"{unnamed:,} cells name no context"] if unnamed else []
    outcome.add("contexts", "; ".join(said) or None, f"{some(panel.contexts)} ({panel.where})")


def check_labels(outcome: Validation, found: Candidate, wanted: np.ndarray) -> None:
    """The perturbation column, the controls, nameless cells, and the number of cells."""
    rules, count = outcome.season.cells, int(wanted.sum())
    problem = None
    if found.labels is None:
        problem = f"obs has none for the perturbation; it has {', '.join(found.columns) or 'none'}"
    outcome.add("perturbation column", problem, f"becomes `{rules.perturbation}`")
    if found.labels is not None:
        controls = int(found.is_control.sum()) if not rules.controls else int((found.is_control & wanted).sum())
        if rules.controls:
            none = f"no control cells: none is labelled `{found.control}`, and the season wants them"
            problem = None if controls else none
            outcome.add("control", problem, f"{controls:,} cells of `{found.control}` become `{rules.control}`")
        else:
            problem = f"the season wants no control cells, and an export leaves {controls:,} out" if controls else None
            outcome.add("control", problem, "none, as wanted", status="warn")
        unnamed = int((found.labels[wanted] == "").sum())
        outcome.add("labels", f"{unnamed:,} cells name no perturbation" if unnamed else None, "every cell names one")
    problem = None if 0 < count <= rules.most else f"{count:,} cells; the season allows 1 to {rules.most:,}"
    outcome.add("number of cells", problem, f"{count:,} of at most {rules.most:,}")
    if rules.advised is not None and problem is None:
        problem = f"{count:,} cells are more than the {rules.advised:,} of the season's rules, if not of its tool"
        outcome.add(
            "advised cells", problem if count > rules.advised else None, f"at most {rules.advised:,}", status="warn"
        )


def check_targets(outcome: Validation, found: Candidate, wanted: np.ndarray, targets: Targets | None) -> None:
    """The list of targets both ways, and the number of cells of each."""
    rules = outcome.season.cells
    perturbed = wanted & ~found.is_control & (found.labels != "")
    contexts = found.contexts if rules.context and found.contexts is not None else np.full(found.n, "", object)
    have = pd.Series(1, index=[contexts[perturbed], found.labels[perturbed]]).groupby(level=[0, 1]).sum()
    none = None if len(have) else "there is no perturbed cell"
    outcome.add("predictions", none, f"{have.index.get_level_values(1).nunique():,} perturbations")
    if targets is None:
        outcome.leave_open("perturbations", "held to no list: name it with --pert-counts")
        _check_each(outcome, have, None)
        return
    said, differing = [], 0
    for context in sorted(
        set(have.index.get_level_values(0)) | {c for c in targets.cells if c} if rules.context else {""}
    ):
        predicted = have[context].to_dict() if context in have.index.get_level_values(0) else {}
        listed, of = targets.of(context), f" in {context}" if context else ""
        missing, extra = sorted(listed.keys() - predicted.keys()), sorted(predicted.keys() - listed.keys())
        said += [f"{len(missing)} of the list are not predicted{of}: {some(missing)}"] if missing else []
        hint = suggestion(extra[0], missing) if extra and missing and len(extra) == 1 else ""
        said += [f"{len(extra)} predicted are not in the list{of}: {some(extra)}{hint}"] if extra else []
        differing += sum(n is not None and predicted.get(name, n) != n for name, n in listed.items())
    count = len({name for names in targets.cells.values() for name in names})
    free = rules.each is None and differing
    note = f"; {differing} have another number of cells than the list, which the season allows" if free else ""
    outcome.add("perturbations", "; ".join(said) or None, f"all {count} of {targets.path.name}{note}")
    _check_each(outcome, have, targets)


def _check_each(outcome: Validation, have: pd.Series, targets: Targets | None) -> None:
    """The season's number of cells, or what its list says of a target."""
    rules = outcome.season.cells
    each, contexts = rules.each, set(have.index.get_level_values(0))
    if each is None or (rules.context and contexts == {""}):
        return  # without contexts nothing can be counted
    expected = [each if targets is None else targets.of(c).get(t, each) for c, t in have.index]
    wrong = [(c, t, n, of) for (c, t), n, of in zip(have.index, have, expected) if n != of]
    named = [f"{t}{f' in {c}' if c else ''} {n}{f' for {of}' if of != each else ''}" for c, t, n, of in wrong]
    problem = f"{len(wrong):,} targets have another number than {each}: {some(named, 4)}" if len(wrong) else None
    told = str(each) if set(expected) <= {each} else "as many as the list says"
    outcome.add("cells of each", problem, f"{told} of every target and context")
