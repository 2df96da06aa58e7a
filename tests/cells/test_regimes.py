"""Regimes: what is new about a pair."""

import pytest

from stateshift.cells.regimes import REGIMES, regimes_of

TRAIN = [("A", "k562"), ("B", "k562"), ("A", "rpe1"), ("A+B", "k562")]


@pytest.mark.parametrize(
    ("perturbation", "context", "regime"),
    [
        ("A", "rpe1", "measured"),
        ("B", "rpe1", "C"),
        ("A", "hela", "C"),
        ("Z", "rpe1", "T"),
        ("Z", "hela", "J"),
        ("B+A", "k562", "measured"),
        ("A + B", "rpe1", "C"),
        ("A+Z", "k562", "T"),
        ("A+Z", "hela", "J"),
    ],
)
def test_a_pair_is_new_in_what_training_lacks(perturbation, context, regime):
    assert regimes_of([perturbation], [context], TRAIN) == [regime]
    assert regime in REGIMES


def test_a_context_of_controls_alone_is_new():
    assert regimes_of(["A", "Z"], ["hela", "hela"], TRAIN) == ["C", "J"]


def test_names_of_different_number_are_refused():
    with pytest.raises(ValueError, match="zip"):
        regimes_of(["A"], [], TRAIN)
