"""Whether a trained network is kept beside its backbone: regime by regime, where held-out pairs say that it helps."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stateshift.cells.regimes import regimes_of
from stateshift.errors import StateshiftError
from stateshift.metrics import FEWEST_GROUPS
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)

RECORD = "anchored.json"
"""Of a run: where its network is kept, and by what."""

DRAWS = 2000
CALLED = {"C": "known targets in new contexts (C)", "T": "new targets (T)", "J": "new targets in new contexts (J)"}
LEAST_ERROR = 0.1
"""Of a draw, as a share of the sample's: a draw that holds one perturbation alone has none."""


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
        what = f"Pearson delta {self.network:.3f}, backbone {self.backbone:.3f}; difference {self.mean:+.3f}"
        return f"{what}{self.interval and f' {self.interval}'} over {self.perturbations} perturbations{self._too_few}"

    @property
    def interval(self) -> str:
        """``[low, high]``; empty of too few perturbations."""
        return "" if self.low != self.low else f"[{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def _too_few(self) -> str:
        return "" if self.interval else f", fewer than the {FEWEST_GROUPS} that can be judged"


def too_few_to_judge(counts: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
    """A sentence where splits tell before a training that its network can't be kept, else "".

    Parameters
    ----------
    counts
        Split → context → perturbations, of ``train``, ``val`` and ``test``. What ``test`` asks for counts, or without one
        what ``val`` does.

    Examples
    --------
    >>> train = {"k562": ["A", "B"], "rpe1": ["A"]}
    >>> said = too_few_to_judge({"train": train, "val": {"k562": ["C"], "rpe1": ["C"]}, "test": {"k562": ["D"]}})
    >>> print(said.split(":")[0])
    anchored keeps its network where at least 5 perturbations of val judge it, and 1 judges new targets (T)
    """
    pairs = {split: [(p, c) for c, of in contexts.items() for p in of] for split, contexts in counts.items()}

    def of_regimes(split: str) -> dict[str, set[str]]:
        asked, found = pairs.get(split, []), {}
        for regime, (p, _) in zip(regimes_of([p for p, _ in asked], [c for _, c in asked], pairs["train"]), asked):
            found.setdefault(regime, set()).add(p)
        return found

    judges = of_regimes("val")
    judged = {regime: len(judges.get(regime, ())) for regime in CALLED if regime in (of_regimes("test") or judges)}
    few = [f"{n or 'none'} judge{'s' * (n == 1)} {CALLED[regime]}" for regime, n in judged.items() if n < FEWEST_GROUPS]
    if not few:
        return ""
    return (
        f"anchored keeps its network where at least {FEWEST_GROUPS} perturbations of val judge it, and {' and '.join(few)}: there "
        "it will be trained and left out, and the backbone alone predicts. Let 12, better 25, of that kind validate ([fewshot] "
        'val, or a cell type as "val" in [zeroshot]), or train another model, as model=state_tiny.'
    )


def verdicts(
    scores: Mapping[int, np.ndarray],
    perturbations: Sequence[str],
    regimes: Sequence[str],
    chosen: int,
    seed: int = 0,
    backbone: np.ndarray | None = None,
) -> dict[str, Verdict]:
    """Judge a network on pairs that neither it nor its backbone was fitted on.

    The step was chosen on these same pairs, so its gain is too good, and its own interval too. The lower end here
    therefore holds for all steps at once (Romano & Wolf, Econometrica 73, 1237, 2005): with the mean gain m(s) of step s and
    its standard error σ(s), and the same of each bootstrap draw over whole perturbations, m*(s) and σ*(s),

        low = m(s) − σ(s) · q,  q the 97.5 % quantile of max over s of (m*(s) − m(s)) / σ*(s)

    Each draw is measured by its own error (the bootstrap-t: Efron & Tibshirani 1993, section 12.5), since few losses far
    out make the gains of a sample that lacks them look both good and sure. A network is kept in a regime if that
    is above zero, which the backbone itself never is.

    Parameters
    ----------
    scores
        Step → Pearson delta of each pair (R,).
    perturbations, regimes
        Of the R pairs.
    chosen
        The step whose weights are the best.
    seed
        Of the draws.
    backbone
        Its Pearson delta of each pair (R,); by default that of step 0, where a new network adds nothing to it.

    Returns
    -------
    dict
        Regime → verdict, without ``measured``, where the backbone gives what was measured.

    Examples
    --------
    >>> genes, better = list("ABCDEFGH"), np.linspace(0.1, 0.2, 8)
    >>> print(verdicts({0: np.full(8, 0.3), 100: 0.3 + better}, genes, ["T"] * 8, 100)["T"])
    Pearson delta 0.450, backbone 0.300; difference +0.150 [+0.121, +0.180] over 8 perturbations
    """
    steps = sorted(scores)
    values = np.stack([scores[step] for step in steps])
    of_backbone = scores[0] if backbone is None else backbone
    there = np.isfinite(values).all(axis=0) & np.isfinite(of_backbone)
    found = {}
    for regime in sorted(set(regimes) - {"measured"}):
        at = np.array([r == regime for r in regimes]) & there
        gains, groups = values[:, at] - of_backbone[at], np.array(perturbations, dtype=str)[at]
        low, high = (ends[steps.index(chosen)] for ends in _simultaneous(gains, groups, seed))
        network, start = float(scores[chosen][at].mean()), float(of_backbone[at].mean())
        found[regime] = Verdict(
            network, start, network - start, float(low), float(high), int(at.sum()), len(set(groups)), bool(low > 0)
        )
    return found


def _simultaneous(gains: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval of each step's mean gain (N,), of gains (N, R): 95 % for all steps at once; NaN of too few groups."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return (np.full(len(gains), np.nan),) * 2
    member, mean = np.eye(len(names))[group], gains.mean(axis=1)
    sums, sizes = (gains - mean[:, None]) @ member, member.sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    error = _mean_and_error(np.ones((1, len(names))), sums, sizes)[1][0]
    deviation, of_draw = _mean_and_error(drawn, sums, sizes)
    of_draw = np.maximum(of_draw, LEAST_ERROR * error)
    studentised = np.divide(deviation, of_draw, out=np.zeros_like(deviation), where=error > 1e-12)
    least, most = np.quantile(studentised.min(axis=1), 0.025), np.quantile(studentised.max(axis=1), 0.975)
    return mean - error * most, mean - error * least


def _mean_and_error(times: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (D, N) of draws that hold each group so many times (D, K), and the standard errors of these ratios.

    Of a mean of groups with sums S and sizes n, error² = Σ (S − mean · n)² / (Σ n)² (Cochran 1977, section 9A).
    """
    size = (times @ sizes)[:, None]
    means = times @ sums.T / size
    squares = times @ (sums**2).T - 2 * means * (times @ (sums * sizes).T) + means**2 * (times @ sizes**2)[:, None]
    return means, np.sqrt(np.maximum(squares, 0)) / size


class KeepRule:
    """Collects the scores of every validation of a training and writes what they say into its run.

    Parameters
    ----------
    run
        The run directory.
    perturbations, regimes
        Of the validation pairs, in the order of the scores.
    seed, backbone
        As `verdicts` takes them.
    """

    def __init__(
        self,
        run: RunDirectory,
        perturbations: Sequence[str],
        regimes: Sequence[str],
        seed: int,
        backbone: np.ndarray | None = None,
    ):
        self.run, self.perturbations, self.regimes, self.seed = run, list(perturbations), list(regimes), seed
        self.backbone = backbone
        self.scores: dict[int, np.ndarray] = {}

    def add(self, step: int, scores: np.ndarray, best_step: int) -> None:
        """Take a validation's scores (R,), and write the verdict on what was best so far."""
        self.scores[step] = scores
        found = verdicts(self.scores, self.perturbations, self.regimes, best_step, self.seed, self.backbone)
        regimes = {regime: _without_nan(asdict(verdict)) for regime, verdict in found.items()}
        stored = {"step": best_step, "regimes": regimes}
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
        regimes = json.loads(path.read_text())["regimes"]
        nan = float("nan")
        return {r: Verdict(**{k: nan if v is None else v for k, v in of.items()}) for r, of in regimes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateshiftError(
            f"{path}, which says where the network is kept beside its backbone, is missing or damaged: copy the run anew, "
            "or train again."
        ) from error


def _without_nan(stored: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for it."""
    return {name: None if value != value else value for name, value in stored.items()}


def log_verdicts(found: Mapping[str, Verdict]) -> None:
    """Tell of each regime whether its network is kept."""
    for regime, verdict in found.items():
        logger.info("regime %s: the network is %s (%s)", regime, "kept" if verdict.kept else "left out", verdict)
