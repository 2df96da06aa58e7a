"""How alike contexts are, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.effects.alike import Alike, _possible, _within, centred, shared_covariance

NAN = float("nan")


def covariance(rows: list[tuple[str, str, list[float], float]]) -> np.ndarray:
    """Of rows (target, context, deviations, noise)."""
    contexts = sorted({c for _, c, _, _ in rows})
    targets = {t: np.array([i for i, row in enumerate(rows) if row[0] == t]) for t in sorted({t for t, *_ in rows})}
    code = np.array([contexts.index(c) for _, c, _, _ in rows])
    return shared_covariance(
        np.array([d for *_, d, _ in rows]), np.array([n for *_, n in rows]), code, targets, len(contexts)
    )


def test_covariances_are_mean_products_over_shared_genes_less_the_noise():
    found = covariance(
        [
            ("A", "x", [3, 1], 1.0),  # (9 + 1) / 2 − 1 = 4
            ("A", "y", [1, -1], 0.25),  # 1 − 0.25 = 0.75; with x (3 − 1) / 2 = 1
            ("B", "x", [2, 0], 0.5),  # 2 − 0.5 = 1.5
            ("B", "y", [0.5, NAN], 0.05),  # of the one gene 0.25 − 0.05 = 0.2; with x 2 · 0.5 = 1
            ("C", "z", [2, 2], 0.5),  # 4 − 0.5 = 3.5
        ]
    )
    x, y, z = 2.75, 0.475, 3.5
    alike = 1 / np.sqrt(x * y)  # of z, which shares no target, what the others have
    assert found == pytest.approx(
        np.array(
            [
                [x, 1, alike * np.sqrt(x * z)],
                [1, y, alike * np.sqrt(y * z)],
                [alike * np.sqrt(x * z), alike * np.sqrt(y * z), z],
            ]
        )
    )


def test_a_pair_that_shares_no_target_is_as_alike_as_the_others_by_how_many_they_share():
    half, fifth = [0.5, np.sqrt(0.75)], [0.2, np.sqrt(0.96)]
    rows = [row for t in "ABC" for row in ((t, "x", [1, 0], 0.0), (t, "y", half, 0.0))]
    found = covariance([*rows, ("D", "x", [1, 0], 0.0), ("D", "z", fifth, 0.0)])
    assert 2 * found == pytest.approx(np.array([[1, 0.5, 0.2], [0.5, 1, 0.425], [0.2, 0.425, 1]]))
    alone = covariance([("A", "x", [1, 1], 0.0), ("B", "y", [2, 2], 0.0)])
    assert alone == pytest.approx(np.array([[1, 2], [2, 4]]))  # nothing shared at all: taken as wholly alike


def test_no_pair_is_more_alike_than_wholly():
    # x and y do the same, though their noise is said to be a fifth
    x, z = np.sqrt(2) * np.array([1, 0]), np.sqrt(2) * np.array([0.4, np.sqrt(0.84)])
    found = covariance([("A", "x", x, 0.2), ("A", "y", x, 0.2), ("A", "z", z, 0.2)])
    assert found / 0.8 == pytest.approx(np.array([[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]]))
    silent = covariance([("A", "x", [1, 1], 9.0), ("A", "y", [1, 1], 9.0)])
    assert np.abs(silent).max() < 1e-9  # noise larger than what was measured


def test_pairs_that_contradict_each_other_lose_what_no_three_contexts_can_have():
    # eigenvalues 1 + 0.9 √2, 1 and 1 − 0.9 √2 < 0: without the last, and of unit variance again
    found = _possible(np.array([[1, 0.9, 0.9], [0.9, 1, 0], [0.9, 0, 1]]))
    top = (1 + 0.9 * np.sqrt(2)) / 4
    xx, xy, yy, yz = 2 * top, np.sqrt(2) * top, top + 0.5, top - 0.5
    assert found[0, 1:] == pytest.approx([xy / np.sqrt(xx * yy)] * 2)
    assert found[1, 2] == pytest.approx(yz / yy)
    assert np.diag(found) == pytest.approx([1, 1, 1])
    fine = np.array([[1, 0.5, 0.4], [0.5, 1, 0.6], [0.4, 0.6, 1]])
    assert _possible(fine) == pytest.approx(fine)


def test_a_new_context_is_nearer_to_the_one_whose_controls_are_alike():
    alike = Alike(
        ["x", "y"],
        np.array([[4.0, 1.0], [1.0, 1.0]]),
        np.array([[1.0, 0.0], [-1.0, 0.0]]),
        {"new": np.array([0.6, 0.8]), "apart": np.array([0.0, 1.0])},
    )
    assert alike.to("y").tolist() == [1, 1]
    # x and y correlate by 0.5 and have standard deviations 2 and 1, a new context their mean, 1.5; cosines ± 0.6
    assert alike.to("new") == pytest.approx([0.5 * 1.6 * 2 * 1.5, 0.5 * 0.4 * 1 * 1.5], rel=1e-4)
    for unknown in ("apart", "never seen"):
        assert alike.to(unknown) == pytest.approx([0.5 * 2 * 1.5, 0.5 * 1 * 1.5], rel=1e-4)
    assert Alike(["x"], np.array([[4.0]]), None, {}).to("new") == pytest.approx([4.0], rel=1e-4)


def test_a_new_context_is_never_more_than_wholly_like_another():
    R = np.array([[1.0, 0.8], [0.8, 1.0]])
    found = Alike(["x", "y"], R, np.array([[1.0, 0.0], [-1.0, 0.0]]), {"new": np.array([0.6, 0.8])}).to("new")
    assert found @ np.linalg.solve(R, found) == pytest.approx(1, abs=1e-4)
    # on the way from 0.8 of both to 0.8 · 1.6, at most 1, and 0.8 · 0.4
    assert (found[0] - 0.8) / (1 - 0.8) == pytest.approx((found[1] - 0.8) / (0.32 - 0.8), rel=1e-4)
    assert 0.8 < found[0] < 1


def test_contexts_that_have_nothing_in_common_tell_nothing_of_a_new_one():
    assert _within(np.eye(3), np.zeros(3), 0.0).tolist() == [0, 0, 0]


def test_correlations_that_contexts_can_have_with_a_new_one_are_taken_as_they_are():
    correlation = np.array([[1, 0.5, 0.4], [0.5, 1, 0.6], [0.4, 0.6, 1]])
    asked = np.array([0.8, 0.5, 0.2])
    assert asked @ np.linalg.solve(correlation, asked) < 1
    assert _within(correlation, asked, 0.5) == pytest.approx(asked)
    drawn = _within(correlation, np.array([1.0, 0.5, 0.0]), 0.5)
    assert drawn @ np.linalg.solve(correlation, drawn) == pytest.approx(1, abs=1e-4)
    assert drawn[0] > drawn[1] > drawn[2]


def test_controls_are_centred_over_the_training_contexts():
    controls = {"x": np.array([1.0, 3.0]), "y": np.array([3.0, 5.0]), "new": np.array([5.0, 5.0])}
    own, others = centred(controls, ["x", "y"])
    assert own.tolist() == [[-1, -1], [1, 1]]
    assert {c: mean.tolist() for c, mean in others.items()} == {"new": [3, 1]}
    assert centred(controls, ["x", "unknown"]) == (None, {})
