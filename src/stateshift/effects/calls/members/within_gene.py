"""Weights of member scores that rank perturbations within a gene, as the AUC of a gene counts them."""

from __future__ import annotations

import numpy as np

MOST_OF_A_GENE = 60
"""Pairs of a called and an uncalled perturbation that one gene gives at most."""


def ranking_weights(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights (M,) of a logistic model of which of two pairs of one group holds the label 1.

    What all pairs of a group share, the gene's mean for one, leaves the differences, so that no weight is spent on
    telling genes apart (conditional logistic regression in pairs; Breslow et al., Am. J. Epidemiol. 108, 299, 1978).
    A group counts by the square root of its pairs. Where no group has both labels, all members weigh alike.

    Parameters
    ----------
    scores
        Array (N, M), each member in units of its spread.
    labels
        Array (N,) of 0 and 1.
    groups
        Codes (N,): pairs are of the same gene, and were held out together.

    Examples
    --------
    >>> scores, labels, genes = np.array([[1.0], [0], [5], [4]]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    >>> bool(ranking_weights(scores, labels, genes)[0] > 0)
    True
    """
    from sklearn.linear_model import LogisticRegression

    higher, lower, weight = _pairs(labels, groups)
    if not len(higher):
        return np.ones(scores.shape[1])
    apart = scores[higher] - scores[lower]
    truth = np.arange(len(apart)) % 2
    # either order says the same, and the model needs both outcomes
    signs = np.where(truth == 1, 1, -1)[:, None]
    fitted = LogisticRegression(fit_intercept=False, max_iter=1000)
    return fitted.fit(apart * signs, truth, sample_weight=weight / weight.mean()).coef_[0]


def _pairs(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the 1 and of the 0 of each pair, and its weight."""
    rng = np.random.default_rng(0)
    order = np.argsort(groups, kind="stable")
    higher, lower, weight = [[np.empty(0, dtype=int)] for _ in range(3)]
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        ones, zeros = group[labels[group] == 1], group[labels[group] == 0]
        n = len(ones) * len(zeros)
        if not n:
            continue
        drawn = np.arange(n) if n <= MOST_OF_A_GENE else rng.choice(n, MOST_OF_A_GENE, replace=False)
        higher.append(ones[drawn // len(zeros)])
        lower.append(zeros[drawn % len(zeros)])
        weight.append(np.full(len(drawn), len(drawn) ** -0.5))
    return np.concatenate(higher), np.concatenate(lower), np.concatenate(weight)
