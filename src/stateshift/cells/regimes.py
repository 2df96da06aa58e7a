"""What a prediction has to carry over: to a new context, to a new target, or to both at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

REGIMES = {
    "measured": "the perturbation was measured in this context",
    "C": "a known perturbation in a new context",
    "T": "a new perturbation in a known context",
    "J": "both are new",
}
"""Regime → what is new. The letters follow the field's: context, target, joint."""


def regimes_of(perturbations: Sequence[str], contexts: Sequence[str], train: Iterable[tuple[str, str]]) -> list[str]:
    """The regime of each (perturbation, context) by the pairs that training has perturbed cells of.

    A double is known where that double was trained on; the order of its genes doesn't count. A context is known
    where any perturbation was trained on in it: control cells alone don't make it so. A known perturbation in a
    known context where that pair is missing is ``C``.

    Parameters
    ----------
    perturbations, contexts
        R names each.
    train
        (perturbation, context) of the training effects.

    Returns
    -------
    list of str
        R keys of `REGIMES`.

    Examples
    --------
    >>> train = [("A", "k562"), ("A+B", "k562"), ("C", "rpe1")]
    >>> regimes_of(["A", "A", "B+A", "B", "B"], ["k562", "rpe1", "rpe1", "rpe1", "hela"], train)
    ['measured', 'C', 'C', 'T', 'J']
    """
    pairs = {(_unordered(p), c) for p, c in train}
    targets, known = {p for p, _ in pairs}, {c for _, c in pairs}

    def one(target: frozenset[str], context: str) -> str:
        if (target, context) in pairs:
            return "measured"
        if target in targets:
            return "C"
        return "T" if context in known else "J"

    return [one(_unordered(p), c) for p, c in zip(perturbations, contexts, strict=True)]


def regime_counts(splits: Mapping[str, Mapping[str, Iterable[str]]]) -> dict[str, dict[str, int]]:
    """How many held-out pairs there are of each regime.

    Parameters
    ----------
    splits
        Split → context → perturbations, as `split_counts` gives them.

    Returns
    -------
    dict
        ``val`` and ``test``, where they hold a pair → regime → pairs, in the order of `REGIMES`.

    Examples
    --------
    >>> regime_counts({"train": {"k562": ["A", "B"]}, "val": {}, "test": {"k562": ["C"], "rpe1": ["A", "C"]}})
    {'test': {'C': 1, 'T': 1, 'J': 1}}
    """
    train = [(p, c) for c, perturbations in splits["train"].items() for p in perturbations]
    counts = {}
    for name in ("val", "test"):
        pairs = [(p, c) for c, perturbations in splits.get(name, {}).items() for p in perturbations]
        found = regimes_of([p for p, _ in pairs], [c for _, c in pairs], train)
        if pairs:
            counts[name] = {regime: found.count(regime) for regime in REGIMES if regime in found}
    return counts


def _unordered(perturbation: str) -> frozenset[str]:
    return frozenset(gene.strip() for gene in perturbation.split("+"))
