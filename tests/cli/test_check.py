"""``stateshift check`` as it is typed."""

import os
import subprocess
import sys

from stateshift.training import check_experiment


def check(screen, *words):
    start = "from stateshift.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", start, "check", str(screen.toml), *words], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "STATESHIFT_CACHE": str(screen.folder / "cache")},
    )  # fmt: skip


def row(text: str, *starts: str) -> list[str]:
    """Cells of the table row that starts so."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines() if "│" in line]
    return next(cells for cells in rows if cells[: len(starts)] == list(starts))


def test_files_cells_splits_coverage_and_needs_are_told(screen):
    screen.toml.write_text(screen.toml.read_text() + f'[features]\ntable = "{screen.table}"\n')
    done = check(screen)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert row(said, "made")[2:] == ["432", "target_gene", "cell_type", "batch", "non-targeting"]
    assert row(said, "control cells") == ["control cells", "72"]
    assert row(said, "test", "T98G") == ["test", "T98G", "5", "120"]
    assert row(said, "test", "C") == ["test", "C", "6", "a known perturbation in a new context"]
    assert row(said, "val", "C")[2] == "1"
    assert row(said, "val", "1") == ["val", "1", "0", "–"]
    assert row(said, "sets of cells") == ["sets of cells", "8, in 1 batches an epoch"]
    assert row(said, "features") == ["features", "0.1 kB"]
    assert row(said, "cells", f"{check_experiment(screen.toml).loaded_bytes / 1e3:.1f} kB, in memory")
    assert "  - G4, held out for test in K562, trains as G4 in A549.\n" in said


def test_without_features_the_model_is_not_known_yet(screen):
    said = check(screen).stdout
    assert row(said, "model") == ["model", "known once [features] names a table, or a published checkpoint of ESM2"]
    assert row(said, "time") == ["time", "known with the model"]


def test_all_problems_are_told_at_once(screen):
    screen.toml.write_text(
        f'[datasets]\nmade = "{screen.cells}"\n[training]\nmade = "train"\n'
        '[zeroshot]\n"made.T98g" = "test"\n[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G3", "G44"]\n'
    )
    done = check(screen)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in (
        "3 problems",
        "did you mean `T98G`",
        "puts G3 into val and into test",
        "`G44` is not",
    ):
        assert part in done.stderr
