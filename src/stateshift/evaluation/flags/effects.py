"""Flags of predicted effects: their size, what they share, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.metrics import FEWEST_GROUPS

LARGEST = 2.0
"""Amplitude above which effects are scaled up. With predicted effects p and measured t, ‖p − t‖ ≥ ‖p‖ − ‖t‖ > ‖t‖ where
‖p‖ > 2‖t‖: whatever their direction, their squared error is then larger than that of no change. A calibrated model
has at most 1, since the mean of what is possible is never larger than what happens (law of total variance)."""
SMALLEST_FIT = 2.0
"""Factor a, of all a·p the nearest to t, from which on effects are scaled down: ‖3p − t‖ < ‖p − t‖ just where a > 2, so
that even three times the prediction would be nearer."""
NOTHING = 0.1
"""Amplitude, the measured being 1, that counts as none: such effects leave over 80 % of what could be explained."""
MOST = 0.5
"""More than half: what is explained under other labels is then more than what is left."""


@dataclass
class Effects:
    """Predicted and measured effects of the P perturbations of a context, and their squares without noise.

    Parameters
    ----------
    predicted, true
        (P, G).
    predicted_squares, true_squares
        (P, G): of the same effects, the noise taken away.
    """

    predicted: np.ndarray
    true: np.ndarray
    predicted_squares: np.ndarray
    true_squares: np.ndarray

    @classmethod
    def of_halves(cls, predicted: np.ndarray, true: np.ndarray) -> Effects:
        """Of halves (2, P, G) each (`two_halves`), whose product is the square."""
        return cls(predicted.mean(axis=0), true.mean(axis=0), predicted[0] * predicted[1], true[0] * true[1])

    @classmethod
    def of_errors(cls, predicted: np.ndarray, true: np.ndarray, standard_error: np.ndarray) -> Effects:
        """Of predicted means without noise, and measured effects with their standard errors, (P, G) each."""
        return cls(predicted, true, predicted**2, true**2 - standard_error**2)

    def without(self, targets: list[list[int]]) -> Effects:
        """With the columns of each perturbation's own targets at zero."""
        kept = np.ones(self.true.shape)
        for i, columns in enumerate(targets):
            kept[i, columns] = 0
        return Effects(*(of * kept for of in (self.predicted, self.true, self.predicted_squares, self.true_squares)))

    def sizes(self, genes: slice = slice(None), labels: np.ndarray | None = None) -> Sizes:
        """Sums over genes; with labels, predictions stand beside the measured effects of others."""
        labels = np.arange(len(self.true)) if labels is None else labels
        p, t = self.predicted[:, genes], self.true[labels][:, genes]
        return Sizes(
            self.predicted_squares[:, genes].sum(axis=1),
            self.true_squares[labels][:, genes].sum(axis=1),
            np.einsum("pg,pg->p", p, p),
            np.einsum("pg,pg->p", p, t),
        )


@dataclass
class Sizes:
    """What predicted and measured effects of a context have in common, pair by pair, free of noise.

    Parameters
    ----------
    predicted, true
        (P,): squared sizes. Of predicted cells that are made to have a mean, halves hold more noise than the mean, and
        their product is below its square.
    whole
        (P,): squared size of the predicted effect, its noise included.
    shared
        (P,): inner product of predicted and measured effect.
    """

    predicted: np.ndarray
    true: np.ndarray
    whole: np.ndarray
    shared: np.ndarray

    @property
    def slope(self) -> float:
        """Of the predicted effects on the measured ones: 1 where they are as large."""
        return float(self.shared.sum() / self.true.sum())

    @property
    def amplitude(self) -> float:
        """Size of the predicted effects, that of the measured being 1; no less than the slope (Cauchy and Schwarz)."""
        return float(np.sqrt(max(self.predicted.sum() / self.true.sum(), self.slope**2)))

    @property
    def can_tell(self) -> bool:
        """Whether the measured effects are above their noise."""
        return above_noise(self.true)


def above_noise(squares: np.ndarray) -> bool:
    """Whether squared sizes (P,), noise taken away, have a sum over twice its standard error."""
    n = len(squares)
    error = squares.std(ddof=1) * np.sqrt(n) if n > 1 else 0.0
    return n > 0 and bool(squares.sum() > max(2 * error, 0.0))


def two_halves(predicted: np.ndarray) -> np.ndarray:
    """Halves (2, P, G) in float64; predictions of one cell have no second half, and are their own means without noise."""
    first, second = predicted.astype(np.float64)
    return np.stack([first, np.where(np.isnan(second), first, second)])


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Σ above / Σ below over pairs, and its standard error (Cochran 1977, section 2.11)."""
    found, n = above.sum() / below.sum(), len(above)
    spread = np.sqrt(((above - found * below) ** 2).sum() * n / max(n - 1, 1))
    return float(found), float(spread / abs(below.sum())) if n > 1 else 0.0


def effect_flags(effects: Effects, apart: Effects) -> list[tuple[str, float, float]]:
    """Flags of the effects of a context.

    Parameters
    ----------
    effects
        Own targets at zero.
    apart
        The same less each gene's mean over perturbations.

    Returns
    -------
    list
        Name, figure, limit.
    """
    told = size_flags(effects.sizes())
    if [name for name, *_ in told] == ["no change"]:
        return told
    other = same_for_all(apart.sizes()) or permuted(apart)
    return told + ([other] if other else [])


def size_flags(sizes: Sizes) -> list[tuple[str, float, float]]:
    """``no change``, ``scaled up`` or ``scaled down``, the latter two by twice their standard error."""
    if not sizes.can_tell:
        return []
    if sizes.amplitude <= NOTHING:
        return [("no change", sizes.amplitude, NOTHING)]
    squared, error = ratio(sizes.predicted, sizes.true)
    if squared - 2 * error > LARGEST**2:
        return [("scaled up", sizes.amplitude, LARGEST)]
    fit, error = ratio(sizes.shared, sizes.whole)
    return [("scaled down", fit, SMALLEST_FIT)] if fit - 2 * error > SMALLEST_FIT else []


def same_for_all(sizes: Sizes) -> tuple[str, float, float] | None:
    """``same effect for all``: what differs between predicted perturbations has under `NOTHING` of the measured amplitude.

    Below twice its own standard error it counts as none, as long as it has under a third of the truth's amplitude.
    """
    if len(sizes.true) < 2 or not sizes.can_tell:
        return None
    chance = 2 * sizes.predicted.std(ddof=1) * np.sqrt(len(sizes.predicted)) / sizes.true.sum()
    limit = max(NOTHING, min(np.sqrt(chance), 1 / 3))
    alike = sizes.amplitude <= limit and sizes.slope <= NOTHING
    return ("same effect for all", sizes.amplitude, float(limit)) if alike else None


def permuted(apart: Effects) -> tuple[str, float, float] | None:
    """``labels permuted``: own labels explain nothing, and others more than half.

    With effects p and t, a prediction explains (2⟨p, t⟩ − ‖p‖²) / ‖t‖² of what differs between perturbations. The labels
    that fit best are found on every other gene (the assignment problem) and judged on the rest, and the other way
    round, so that what fits by chance on one half of the genes has to hold on the other. The best labels of an honest
    model are mostly its own; a model without skill fits others by chance, mostly less than half. With fewer than five
    perturbations nothing is said.
    """
    from scipy.optimize import linear_sum_assignment

    if len(apart.true) < FEWEST_GROUPS:
        return None
    explained: list[list[float]] = [[], []]
    for start in (0, 1):
        chosen, rest = slice(start, None, 2), slice(1 - start, None, 2)
        best = linear_sum_assignment(apart.predicted[:, chosen] @ apart.true[:, chosen].T, maximize=True)[1]
        for labels, found in zip((None, best), explained):
            sizes = apart.sizes(rest, labels)
            if not sizes.can_tell:
                return None
            found.append(2 * sizes.slope - sizes.amplitude**2)
    own, other = np.mean(explained, axis=1)
    return ("labels permuted", float(other), MOST) if own <= 0 and other > MOST else None
