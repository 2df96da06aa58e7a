"""Whether a trained network is kept beside its backbone: regime by regime, where held-out pairs say that it helps."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.metrics import FEWEST_GROUPS
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)

RECORD = "anchored.json"
"""Of a run: where its network is kept, and by what."""

DRAWS = 2000


@dataclass(frozen=True)
class Verdict:
    """Network against backbone on the validation pairs of a regime.

    Parameters
    ----------
    network, backbone
        Mean Pearson delta.
    mean, low, high
        Mean paired difference, and its 95 % interval over perturbations, for all steps at once; NaN of too few.
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

    The step was chosen on these same pairs, so its gain is too good, and its own interval too. The lower end here
    therefore holds for all steps at once (Romano & Wolf, Econometrica 73, 1237, 2005): with the mean gain m(s) of step s, its
    bootstrap draws m*(s) over whole perturbations and their standard deviation σ(s),

        low = m(s) − σ(s) · q,  q the 97.5 % quantile of max over s of (m*(s) − m(s)) / σ(s)

    A network is kept in a regime if that is above zero; never if the chosen step is 0, the backbone itself.

    Parameters
    ----------
    scores
        Step → Pearson delta of each pair (R,); step 0 is the backbone.
    perturbations, regimes
        Of the R pairs.
    chosen
        The step whose weights are the best.
    seed
        Of the draws.

    Returns
    -------
    dict
        Regime → verdict, without ``measured``, where the backbone gives what was measured.

    Examples
    --------
    >>> genes, better = list("ABCDEFGH"), np.linspace(0.1, 0.2, 8)
    >>> print(verdicts({0: np.full(8, 0.3), 100: 0.3 + better}, genes, ["T"] * 8, 100)["T"])
    Pearson delta 0.450, backbone 0.300; difference +0.150 [+0.123, +0.180] over 8 perturbations
    """
    steps = sorted(scores)
    values = np.stack([scores[step] for step in steps])
    found = {}
    for regime in sorted(set(regimes) - {"measured"}):
        at = np.array([r == regime for r in regimes]) & np.isfinite(values).all(axis=0)
        gains, groups = values[:, at] - values[0, at], np.array(perturbations, dtype=str)[at]
        low, high = (ends[steps.index(chosen)] for ends in _simultaneous(gains, groups, seed))
        network, backbone = (float(values[steps.index(step), at].mean()) for step in (chosen, 0))
        mean = network - backbone
        found[regime] = Verdict(
            network, backbone, mean, float(low), float(high), int(at.sum()), len(set(groups)), bool(chosen and low > 0)
        )
    return found


def _simultaneous(gains: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval of each step's mean gain (N,), of gains (N, R): 95 % for all steps at once; NaN of too few groups.

    A bootstrap of few is too narrow: its quantiles are those of Student's t in place of the normal's, and its
    deviation that of n − 1 (Hesterberg, The American Statistician 69, 371, 2015).
    """
    from scipy.stats import norm, t

    names, group = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return (np.full(len(gains), np.nan),) * 2
    member = np.eye(len(names))[group]
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    means = (drawn @ (gains @ member).T) / (drawn @ member.sum(axis=0))[:, None]
    deviation = means - gains.mean(axis=1)
    spread = deviation.std(axis=0)
    studentised = np.divide(deviation, spread, out=np.zeros_like(deviation), where=spread > 1e-12)
    ends = np.array([np.quantile(studentised.min(axis=1), 0.025), np.quantile(studentised.max(axis=1), 0.975)])
    n = len(names)
    least, most = t.ppf(norm.cdf(ends), n - 1) * np.sqrt(n / (n - 1))
    return gains.mean(axis=1) - spread * most, gains.mean(axis=1) - spread * least


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
