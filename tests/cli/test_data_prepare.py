"""``stateshift data prepare`` as a user types it: from simulated counts to a checked experiment."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import anndata as ad
import pytest

from stateshift.cells.simulate import simulate_experiment

PREPARE = ["-o", "prepared.h5ad", "--min-genes", 5, "--min-counts", 10, "--min-cells-per-perturbation", 3, "--hvg", 30]


def command(*words: object, limit: int | None = None) -> subprocess.CompletedProcess:
    """Run ``stateshift …``; ``limit`` caps every file's bytes, as a full disk would."""

    def cap() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    program = [sys.executable, "-c", "from stateshift.cli.main import run; run()"]
    return subprocess.run(
        [*program, *map(str, words)], capture_output=True, text=True, check=False, preexec_fn=cap if limit else None,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """A simulated screen, and its experiment pointed at the file to be prepared."""
    monkeypatch.chdir(tmp_path)
    toml = simulate_experiment(tmp_path / "raw.h5ad", contexts=2, targets=10, cells=1200, genes=300, depth=60_000)
    toml.write_text(toml.read_text().replace("raw.h5ad", "prepared.h5ad"))
    return toml


def test_simulated_counts_are_prepared_and_checked(simulated, tmp_path):
    done = command("data", "prepare", "raw.h5ad", *PREPARE, "--no-knockdown-filter", "--experiment", simulated)
    assert done.returncode == 0, done.stderr
    assert "prepared.h5ad: 1,200 cells, log1p of 1e4, 30 highly variable genes in X_hvg." in done.stdout
    assert "read: 1,200 cells × 300 genes" in done.stderr
    held_out = ad.read_h5ad("prepared.h5ad").obs["cell_type"].eq("context_2").sum()
    assert "highly variable genes: 1,200 cells × 30 genes" in done.stderr
    trained = int(done.stderr.split("vary most among ")[1].split(" ")[0].replace(",", ""))
    assert 0 < trained < 1200 - held_out
    checked = command("check", simulated)
    assert checked.returncode == 0, checked.stderr
    assert "log1p_1e4" in checked.stdout


def test_what_is_prepared_is_not_prepared_again(simulated, tmp_path):
    assert command("data", "prepare", "raw.h5ad", *PREPARE, "--no-knockdown-filter").returncode == 0
    again = command("data", "prepare", "prepared.h5ad", "-o", "twice.h5ad")
    assert again.returncode == 2
    assert "prepared.h5ad: X is log1p_1e4, and raw counts are needed" in again.stderr
    assert "Traceback" not in again.stderr
    assert not (tmp_path / "twice.h5ad").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(simulated, tmp_path):
    before = sorted(os.listdir(tmp_path))
    done = command("data", "prepare", "raw.h5ad", *PREPARE, "--no-knockdown-filter", limit=20_000)
    assert done.returncode == 2
    assert "no room is left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == before
