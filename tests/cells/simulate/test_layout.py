"""Which cell is what: uneven groups, controls everywhere, batch after batch."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.cells.simulate.layout import apportion, draw_layout
from stateshift.errors import StateshiftError


@pytest.fixture(scope="module")
def layout():
    return draw_layout(3, 40, 5, 10_000, np.random.default_rng(0))


def test_every_target_has_cells_in_every_context_and_groups_are_uneven(layout):
    assert len(layout) == 10_000
    perturbed = layout.target >= 0
    sizes = np.bincount(layout.context[perturbed] * 40 + layout.target[perturbed], minlength=120)
    assert sizes.min() >= 2
    assert sizes.max() > 4 * sizes.min()
    assert np.log(sizes).std() == pytest.approx(np.hypot(0.5, 0.3), rel=0.3)


def test_a_tenth_are_controls_some_of_each_context_in_each_batch(layout):
    control = layout.target == -1
    assert control.sum() == 1_000
    sizes = np.bincount(layout.context[control] * 5 + layout.batch[control], minlength=15)
    assert sizes.min() >= 2


def test_cells_lie_batch_after_batch_with_groups_mixed_inside(layout):
    assert (np.diff(layout.batch) >= 0).all()
    first = layout.target[layout.batch == 0]
    assert (np.diff(first) == 0).mean() < 0.2


def test_the_fewest_cells_that_fill_every_group_are_enough_and_one_less_is_not():
    assert np.bincount(draw_layout(2, 3, 2, 20, np.random.default_rng(0)).target + 1).tolist() == [8, 4, 4, 4]
    with pytest.raises(StateshiftError, match=r"19 cells are too few .* ask for 20 or more"):
        draw_layout(2, 3, 2, 19, np.random.default_rng(0))


def test_apportioned_numbers_sum_to_the_total_and_follow_the_weights():
    weights = np.random.default_rng(0).lognormal(size=30)
    sizes = apportion(5_000, weights)
    assert sizes.sum() == 5_000
    assert np.abs(sizes - 2 - (5_000 - 60) * weights / weights.sum()).max() < 1
