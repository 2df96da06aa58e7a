"""``stateshift data simulate`` as a user types it."""

from __future__ import annotations

import subprocess
import sys

import anndata
import pytest


def simulate(*words: object) -> subprocess.CompletedProcess:
    program = [sys.executable, "-c", "from stateshift.cli.main import run; run()", "data", "simulate"]
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture
def small(tmp_path, monkeypatch) -> list[object]:
    monkeypatch.chdir(tmp_path)
    return ["-o", "sim.h5ad", "--contexts", 2, "--targets", 6, "--cells", 300, "--genes", 80, "--batches", 2]


def test_cells_are_written_and_the_next_step_is_named(small, tmp_path):
    done = simulate(*small, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sim.h5ad: 300 cells × 80 genes, simulated. Next: stateshift check sim.toml\n"
    cells = anndata.read_h5ad(tmp_path / "sim.h5ad")
    assert cells.shape == (300, 80)
    assert cells.uns["stateshift"]["seed"] == 3
    checked = subprocess.run(
        [sys.executable, "-c", "from stateshift.cli.main import run; run()", "check", "sim.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "6 of 6 perturbed genes have a vector" in checked.stdout


def test_a_second_run_refuses_to_replace_the_first(small, tmp_path):
    assert simulate(*small).returncode == 0
    before = (tmp_path / "sim.h5ad").read_bytes()
    again = simulate(*small, "--seed", 1)
    assert again.returncode == 2
    assert "Traceback" not in again.stderr
    assert "sim.h5ad exists already" in again.stderr
    assert "sim.toml exists already" in again.stderr
    assert (tmp_path / "sim.h5ad").read_bytes() == before


def test_a_million_and_one_cells_are_refused_in_words(small, tmp_path):
    done = simulate("-o", "sim.h5ad", "--cells", 1_000_001)
    assert done.returncode == 2
    assert "cells = 1,000,001: at most 1,000,000 can be simulated" in done.stderr
    assert not list(tmp_path.iterdir())
