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
class Sizes:
    """What predicted and measured effects of a context have in common, pair by pair, free of noise.

    Parameters
    ----------
    predicted, true
        (P,): inner products of the effects of two halves. Where predicted cells are made to have a mean, it has less
        noise than its halves, and the product is below the squared size.
    whole
        (P,): squared size of the whole predicted effect, its noise included.
    shared
        (P,): inner product of predicted and measured effect.
    """

    predicted: np.ndarray
    true: np.ndarray
    whole: np.ndarray
    shared: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, true: np.ndarray) -> Sizes:
        """Of halves (2, P, G) each.

        A prediction of one cell has no second half, and is its own mean without noise.
        """
        predicted = np.stack([predicted[0], np.where(np.isnan(predicted[1]), predicted[0], predicted[1])])
        p, t = predicted.mean(axis=0), true.mean(axis=0)
        return cls(*(np.einsum("pg,pg->p", a, b) for a, b in ((*predicted,), (*true,), (p, p), (p, t))))

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
        """Whether the measured effects are above their noise: their sum is over twice its standard error."""
        n = len(self.true)
        error = self.true.std(ddof=1) * np.sqrt(n) if n > 1 else 0.0
        return n > 0 and self.true.sum() > 2 * error and self.true.sum() > 0


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Σ above / Σ below over pairs, and its standard error (Cochran 1977, section 2.11)."""
    found, n = above.sum() / below.sum(), len(above)
    spread = np.sqrt(((above - found * below) ** 2).sum() * n / max(n - 1, 1))
    return float(found), float(spread / abs(below.sum())) if n > 1 else 0.0


def size_flags(predicted: np.ndarray, true: np.ndarray) -> list[tuple[str, float, float]]:
    """``no change``, ``scaled up`` or ``scaled down``, each by twice its standard error.

    Parameters
    ----------
    predicted, true
        (2, P, G): effects of two halves of the cells of P perturbations of a context, own targets zero. True pairs
        without two halves are left out by the caller.

    Returns
    -------
    list
        Name, figure, limit.
    """
    sizes = Sizes.of(predicted, true)
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

    Parameters
    ----------
    sizes
        Of effects less each gene's mean over perturbations, own targets zero.
    """
    if len(sizes.true) < 2 or not sizes.can_tell:
        return None
    chance = 2 * sizes.predicted.std(ddof=1) * np.sqrt(len(sizes.predicted)) / sizes.true.sum()
    limit = max(NOTHING, min(np.sqrt(chance), 1 / 3))
    alike = sizes.amplitude <= limit and sizes.slope <= NOTHING
    return ("same effect for all", sizes.amplitude, NOTHING) if alike else None


def permuted(predicted: np.ndarray, true: np.ndarray) -> tuple[str, float, float] | None:
    """``labels permuted``: own labels explain nothing, and others more than half.

    With effects p and t, a prediction explains (2⟨p, t⟩ − ‖p‖²) / ‖t‖² of what differs between perturbations. The labels
    that fit best are found on every other gene (the assignment problem) and judged on the rest, and the other way
    round, so that what fits by chance on one half of the genes has to hold on the other. The best labels of an honest
    model are mostly its own; a model without skill fits others by chance, mostly less than half.

    Parameters
    ----------
    predicted, true
        (2, P, G), each gene's mean over perturbations taken away, own targets zero. With fewer than five perturbations
        nothing is said.
    """
    from scipy.optimize import linear_sum_assignment

    P = predicted.shape[1]
    if P < FEWEST_GROUPS:
        return None
    own, other = [], []
    for chosen in (slice(0, None, 2), slice(1, None, 2)):
        rest = slice(1 - chosen.start, None, 2)
        p, t = np.nanmean(predicted[:, :, chosen], axis=0), true[:, :, chosen].mean(axis=0)
        labels = linear_sum_assignment(p @ t.T, maximize=True)[1]
        for of, explained in ((np.arange(P), own), (labels, other)):
            sizes = Sizes.of(predicted[:, :, rest], true[:, of, rest])
            if not sizes.can_tell:
                return None
            explained.append(2 * sizes.slope - sizes.amplitude**2)
    if np.mean(own) <= 0 and np.mean(other) > MOST:
        return "labels permuted", float(np.mean(other)), MOST
    return None
