"""Whether a trained network is kept beside its backbone: regime by regime, where held-out pairs say that it helps."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.metrics import paired_bootstrap
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)

RECORD = "anchored.json"
"""Of a run: where its network is kept, and by what."""

FOLDS = 5


@dataclass(frozen=True)
class Verdict:
    """Network against backbone on the validation pairs of a regime.

    Parameters
    ----------
    network, backbone
        Mean Pearson delta.
    mean, low, high
        Mean paired difference, and its 95 % interval over perturbations; NaN of too few.
    pairs, perturbations
        How many were compared.
    kept
        Whether the network predicts in this regime.
    """

    network: float
    backbone: float
    mean: float
    low: float
    high: float
    pairs: int
    perturbations: int
    kept: bool

    def __str__(self) -> str:
        what = f"Pearson delta {self.network:.3f}, backbone {self.backbone:.3f}; difference {self.mean:+.3f} "
        return f"{what}[{self.low:+.3f}, {self.high:+.3f}] over {self.perturbations} perturbations"


def verdicts(
    scores: Mapping[int, np.ndarray], perturbations: Sequence[str], regimes: Sequence[str], chosen: int, seed: int = 0
) -> dict[str, Verdict]:
    """Judge a network on pairs that neither it nor its backbone was fitted on.

    The best step was chosen on these same pairs, so the gain at that step is too good. Perturbations are therefore dealt
    to five folds, and each fold's network is that of the step which the other folds would have chosen (step 0, the backbone
    itself, among them). A network is kept in a regime if the paired bootstrap's interval of its gain lies above
    zero; never if the best step is 0.

    Parameters
    ----------
    scores
        Step → Pearson delta of each pair (R,); step 0 is the backbone.
    perturbations, regimes
        Of the R pairs.
    chosen
        The step that is kept as the best.
    seed
        Deals the folds and draws the bootstrap.

    Returns
    -------
    dict
        Regime → verdict, without ``measured``, where the backbone gives what was measured.

    Examples
    --------
    >>> genes, better = list("ABCDEFGH"), np.linspace(0.1, 0.2, 8)
    >>> verdicts({0: np.full(8, 0.3), 100: 0.3 + better}, genes, ["T"] * 8, 100)["T"].kept
    True
    """
    steps = sorted(scores)
    values = np.stack([scores[step] for step in steps])
    backbone = values[0]
    network = np.empty_like(backbone)
    names, code = np.unique(np.array(perturbations, dtype=str), return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[code] % FOLDS
    for k in np.unique(fold):
        others = values[:, fold != k]
        best = int(np.nanmean(others, axis=1).argmax()) if others.size else 0
        network[fold == k] = values[best, fold == k]
    found = {}
    for regime in sorted(set(regimes) - {"measured"}):
        at = np.array([r == regime for r in regimes]) & np.isfinite(backbone) & np.isfinite(network)
        difference = paired_bootstrap(network[at], backbone[at], np.array(perturbations)[at], seed=seed)
        found[regime] = Verdict(
            float(network[at].mean()), float(backbone[at].mean()), difference.mean, difference.low, difference.high,
            difference.pairs, difference.groups, bool(chosen and difference.low > 0),
        )  # fmt: skip
    return found


class KeepRule:
    """Collects the scores of every validation of a training and writes what they say into its run.

    Parameters
    ----------
    run
        The run directory.
    perturbations, regimes
        Of the validation pairs, in the order of the scores.
    seed
        As `verdicts` takes it.
    """

    def __init__(self, run: RunDirectory, perturbations: Sequence[str], regimes: Sequence[str], seed: int):
        self.run, self.perturbations, self.regimes, self.seed = run, list(perturbations), list(regimes), seed
        self.scores: dict[int, np.ndarray] = {}

    def add(self, step: int, scores: np.ndarray, best_step: int) -> None:
        """Take a validation's scores (R,), and write the verdict on what was best so far."""
        self.scores[step] = scores
        found = verdicts(self.scores, self.perturbations, self.regimes, best_step, self.seed)
        stored = {"step": best_step, "regimes": {regime: asdict(verdict) for regime, verdict in found.items()}}
        self.run.write_text(RECORD, json.dumps(stored, indent=1) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {str(step): scores.tolist() for step, scores in self.scores.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.scores = {int(step): np.array(scores, dtype=float) for step, scores in state.items()}


def read_verdicts(run: RunDirectory) -> dict[str, Verdict]:
    """Regime → verdict of a run's network; a regime without validation pairs has none, and no network is kept there.

    Raises
    ------
    StateshiftError
        The record is missing or damaged.
    """
    path = run.path / RECORD
    try:
        return {regime: Verdict(**stored) for regime, stored in json.loads(path.read_text())["regimes"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateshiftError(
            f"{path}, which says where the network is kept beside its backbone, is missing or damaged: copy the run anew, "
            "or train again."
        ) from error


def log_verdicts(found: Mapping[str, Verdict]) -> None:
    """Tell of each regime whether its network is kept."""
    for regime, verdict in found.items():
        logger.info("regime %s: the network is %s (%s)", regime, "kept" if verdict.kept else "left out", verdict)
