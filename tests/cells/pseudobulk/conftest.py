from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from stateshift.cells import Cells, EffectTable, Expression


@pytest.fixture
def by_hand() -> Callable[..., Cells]:
    """Cells of one gene from (file, context, perturbation, batch, value)."""

    def make(*rows: tuple[str, str, str, str, float], scale: str = "log1p") -> Cells:
        obs = pd.DataFrame([r[:4] for r in rows], columns=["file", "context", "perturbation", "batch"])
        return Cells(Expression([np.array([[r[4]] for r in rows])]), obs.assign(dataset="d"), ["g"], "ctrl", scale)

    return make


@pytest.fixture
def whole_table() -> EffectTable:
    """A table that knows everything, one gene unmeasured in one row."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(3, 4)).astype(np.float32)
    effects[1, 2] = np.nan
    return EffectTable(
        ["g1", "g2", "g3", "g4"],
        ["A", "A+B", "A"],
        ["K562", "K562", "T98G/late"],
        effects,
        np.array([20, 30, 4]),
        {c: rng.random(4).astype(np.float32) for c in ("K562", "T98G/late", "unseen")},
        standard_error=np.abs(effects) / 2,
        log2_fold_change=effects * 2,
        shrunk=effects / 2,
        n_controls=np.array([100, 100, 12]),
        n_unmatched=np.array([0, 3, 0]),
        reliability=np.array([0.5, 0.9, np.nan]),
        scale="log1p_1e4",
        simulated=True,
    )
