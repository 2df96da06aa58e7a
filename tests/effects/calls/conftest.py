"""Tables of calls made with known structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stateshift.feature_table import FeatureTable


@dataclass
class Made:
    """A table on disk: targets of four families, each with its own response; features that know the family."""

    folder: Path
    calls: Path
    features: Path
    responses: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """Two contexts × 60 targets × 40 genes, 40 % of the pairs called, every fourth target tested."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    targets, genes = [f"T{i}" for i in range(60)], [f"G{i}" for i in range(40)]
    family, program = np.arange(60) % 4, np.arange(40) % 5
    strength = rng.normal(0, 1.5, (4, 5))
    lines = ["pert,gene,label,context,split"]
    for context in ("x", "y"):
        for i, target in enumerate(targets):
            for j, gene in enumerate(genes):
                if rng.random() < 0.4:
                    label = int(rng.random() < 1 / (1 + np.exp(-strength[family[i], program[j]])))
                    lines.append(f"{target},{gene},{label},{context},{'test' if i % 15 < 4 else 'train'}")
    (folder / "calls.csv").write_text("\n".join(lines) + "\n")
    FeatureTable(targets, np.eye(4)[family] + 0.3 * rng.standard_normal((60, 4)), {"source": "made"}).save(
        folder / "f.pt"
    )
    FeatureTable(genes, np.eye(5)[program] + 0.3 * rng.standard_normal((40, 5)), {"source": "made"}).save(
        folder / "r.pt"
    )
    return Made(folder, folder / "calls.csv", folder / "f.pt", folder / "r.pt")
