import numpy as np
import pandas as pd
import pytest

from stateshift.cells import Cells, EffectTable, Expression, estimate_effects, read_cells
from stateshift.errors import StateshiftError


def by_hand(rows: list[tuple[str, str, str, str, float]]) -> Cells:
    """Cells of one gene from (file, context, perturbation, batch, value)."""
    obs = pd.DataFrame([r[:4] for r in rows], columns=["file", "context", "perturbation", "batch"]).assign(dataset="d")
    return Cells(Expression([np.array([[r[4]] for r in rows])]), obs, ["g"], "ctrl", "log1p")


def test_controls_are_matched_by_batch_and_weighted_by_perturbed_cells():
    cells = by_hand(
        [
            ("f", "c", "ctrl", "1", 1.0),
            ("f", "c", "ctrl", "1", 3.0),
            ("f", "c", "ctrl", "2", 6.0),
            ("f", "c", "A", "1", 5.0),
            ("f", "c", "A", "1", 7.0),
            ("f", "c", "A", "2", 9.0),
        ]
    )
    table = estimate_effects(cells)
    # batch 1: mean 6 − control 2, two cells; batch 2: 9 − 6, one cell
    assert table.effects[0, 0] == pytest.approx((2 * 4 + 3) / 3)
    assert table.n_cells.tolist() == [3]
    assert table.control_means["c"][0] == pytest.approx(10 / 3)


def test_a_batch_without_controls_takes_those_of_its_file_and_context():
    cells = by_hand([("f", "c", "ctrl", "1", 1.0), ("f", "c", "ctrl", "2", 2.0), ("f", "c", "A", "3", 4.0)])
    assert estimate_effects(cells).effects[0, 0] == pytest.approx(2.5)


def test_controls_of_another_file_are_not_used():
    cells = by_hand([("f", "c", "ctrl", "1", 1.0), ("h", "c", "A", "1", 4.0)])
    with pytest.raises(StateshiftError, match="h: context `c` has perturbed cells and no control cells"):
        estimate_effects(cells)


def test_known_effects_of_the_made_screen_are_found(screen):
    table = estimate_effects(read_cells(screen.cells))
    for p, effect in zip(table.perturbations, table.effects):
        np.testing.assert_allclose(effect, screen.effects[p], atol=0.25)
    assert len(table) == 15


def test_a_table_survives_its_file(screen, tmp_path):
    table = estimate_effects(read_cells(screen.cells))
    table.save(tmp_path / "effects.npz")
    again = EffectTable.load(tmp_path / "effects.npz")
    np.testing.assert_array_equal(again.effects, table.effects)
    assert (again.perturbations, again.contexts, again.genes) == (table.perturbations, table.contexts, table.genes)
    assert set(again.control_means) == {"A549", "K562", "T98G"}
