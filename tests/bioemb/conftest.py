"""Small tables and a decoder that trains in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stateshift.feature_table import FeatureTable


@pytest.fixture
def tiny(monkeypatch) -> None:
    """The preset `small` at a size for tests."""
    from stateshift.bioemb.model import PRESETS

    sizes = {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "dropout": 0.0}
    monkeypatch.setitem(PRESETS, "small", sizes)


@pytest.fixture
def table(tmp_path) -> FeatureTable:
    """48 genes of 8 values in six families, two of them the same vector; also at ``t.pt``."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((6, 8)), 8, axis=0) + 0.4 * rng.standard_normal((48, 8))
    vectors[40] = vectors[3]
    made = FeatureTable([f"G{i}" for i in range(48)], vectors, {"source": "made"})
    made.save(tmp_path / "t.pt")
    return made


@pytest.fixture
def overrides(tmp_path) -> Callable[..., list[str]]:
    """Overrides of a quick training on ``t.pt``, and others."""

    def make(name: str = "run", *others: str) -> list[str]:
        quick = ["training.epochs=4", "training.measure_every=2", "model.bottleneck=6", "codes.k=4"]
        fitted = () if any(o.startswith("data.held_out") for o in others) else ("data.transductive=true",)
        return [f"data.table={tmp_path / 't.pt'}", f"output_dir={tmp_path}", f"name={name}", *quick, *fitted, *others]

    return make


@pytest.fixture
def write(tmp_path) -> Callable[[str, str], Path]:
    """Write a text file."""

    def to(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return to
