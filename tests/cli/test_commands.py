"""The commands as a user types them, right and wrong: some in a process of their own, the others in this one."""

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.training import train as train_experiment

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = [
    "model.hidden=16",
    "model.ffn=16",
    "model.heads=2",
    "model.layers=1",
    "model.set_size=8",
    "training.val_every=5",
]


def command(*words: object, limit: int | None = None, script: str | None = None) -> subprocess.CompletedProcess:
    """Run ``stateshift …`` (or a script); ``limit`` caps every file's bytes, as a full disk would."""
    start = "from stateshift.cli.main import run; run()"
    program = [sys.executable, str(REPOSITORY / "scripts" / script)] if script else [sys.executable, "-c", start]

    def cap() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.run(
        [*program, *map(str, words)], capture_output=True, text=True, preexec_fn=cap if limit else None,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}, check=False,
    )  # fmt: skip


def inside(*words: object) -> subprocess.CompletedProcess:
    """Run ``stateshift …`` without a process of its own."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    if isinstance(done.exception, StateshiftError):
        return subprocess.CompletedProcess(words, 2, done.output, f"stateshift: {done.exception}")
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.output, done.output)


def refused(done: subprocess.CompletedProcess) -> str:
    """The error of a refused command: exit code 2 and no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def in_folder(screen, monkeypatch):
    monkeypatch.chdir(screen.folder)
    return screen


def train(screen, *more: object, how=inside) -> subprocess.CompletedProcess:
    return how("train", screen.toml, *FAST, "training.max_steps=10", "--pert-features", screen.table, *more)


def test_the_way_from_toml_to_submission(in_folder):
    screen = in_folder
    assert "T98G" in inside("check", screen.toml).stdout
    trained = train(screen, how=command)
    assert trained.returncode == 0, trained.stderr
    assert "The run is runs/made_state_tiny" in trained.stdout
    (screen.folder / "genes.txt").write_text("G1\nG4\n")
    predicted = command(
        "predict", "runs/made_state_tiny", "--cells", screen.cells, "--perturb", "genes.txt", "--context", "T98G",
        "--control-pert", "non-targeting", "-o", "predicted.h5ad",
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    next_one = "Next: stateshift evaluate predicted.h5ad --truth TRUTH.h5ad"
    assert predicted.stdout.strip().endswith(next_one)
    scored = inside("evaluate", "predicted.h5ad", "--truth", screen.cells, "-o", "scores")
    assert scored.returncode == 0, scored.stderr
    assert "ridge" in scored.stdout
    assert "Intervals: the 90% intervals of state_tiny hold" in scored.stdout
    twice = inside("predict", *["runs/made_state_tiny"] * 2, "--cells", screen.cells, "--perturb", "G1", "-o", "p.h5ad")
    assert twice.returncode == 2
    assert "made_state_tiny is named twice" in twice.stderr
    assert "context_mean" in (screen.folder / "scores" / "summary.csv").read_text()
    (screen.folder / "gene_names.csv").write_text("".join(f"GENE{i}\n" for i in range(20)))
    words = ("predicted.h5ad", "--season", "2025", "--genes", "gene_names.csv", "--expected-gene-dim", "20")
    assert inside("challenge", "validate", *words).returncode == 0
    exported = command("challenge", "export", *words, "-o", "submission.vcc")
    assert exported.returncode == 0, exported.stderr
    assert "2 targets" in exported.stdout
    reported = inside("report", "runs/made_state_tiny")
    assert reported.returncode == 0, reported.stderr
    assert (screen.folder / "runs" / "made_state_tiny" / "report.html").is_file()


def test_the_starter_packs_script_trains(in_folder):
    done = command(
        "--config", in_folder.toml, "--pert-features", in_folder.table, "--pert-col", "target_gene",
        "--control-pert", "non-targeting", "--model", "state_tiny", "--max-steps", "2", "--output-dir", "competition",
        "--name", "first_run", script="train_with_esm_features.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (in_folder.folder / "competition" / "first_run" / "checkpoints" / "last.ckpt").is_file()


def test_the_feature_script_makes_a_table(in_folder):
    done = command(
        "--from-toml", in_folder.toml, "--source", "onehot", "--output", "onehot.pt",
        script="create_esm_pert_features.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 genes × 4 values" in done.stdout


@pytest.mark.parametrize("kind", ["truncated", "not HDF5", "NaN", "negative", "no controls"])
def test_bad_cells_are_one_sentence_and_leave_nothing(in_folder, kind):
    # one of them as a command, the others by the function that it calls
    screen, adata = in_folder, ad.read_h5ad(in_folder.cells)
    if kind == "truncated":
        screen.cells.write_bytes(screen.cells.read_bytes()[:5000])
    elif kind == "not HDF5":
        screen.cells.write_text("gene,cell\n")
    elif kind == "no controls":
        adata[adata.obs.target_gene != "non-targeting"].write_h5ad(screen.cells)
    else:
        X = adata.X.toarray()
        X[3, 3] = np.nan if kind == "NaN" else -1.0
        adata.X = X
        adata.write_h5ad(screen.cells)
    if kind == "truncated":
        said = refused(train(screen, how=command))
        refused(inside("check", screen.toml))
    else:
        with pytest.raises(StateshiftError) as refusal:
            train_experiment(screen.toml, FAST, pert_features=screen.table)
        said = str(refusal.value)
    assert "cells.h5ad" in said
    expected = {
        "truncated": "can't be read as an AnnData file",
        "not HDF5": "can't be read as an AnnData file",
        "NaN": "1 NaN or infinite values",
        "negative": "negative values",
        "no controls": "no control cells",
    }[kind]
    assert expected in said
    assert not (screen.folder / "runs").exists()


def test_an_unknown_model_is_refused_with_a_suggestion(in_folder):
    assert "There is no model `state_tinny` (did you mean `state_tiny`?)" in refused(
        train(in_folder, "model=state_tinny")
    )


def test_an_output_that_exists_is_refused(in_folder):
    assert train(in_folder).returncode == 0
    assert "exists with another run" in refused(train(in_folder))


def test_a_feature_table_of_two_widths_is_refused_by_gene(in_folder):
    import torch

    torch.save({"G1": torch.ones(3), "G2": torch.ones(4)}, in_folder.folder / "bad.pt")
    said = refused(inside("train", in_folder.toml, "--pert-features", "bad.pt"))
    assert "`G2` has 4 values and `G1` has 3" in said


def test_a_pickle_is_not_executed(in_folder):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (in_folder.folder / "executed",))

    (in_folder.folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    assert "not a feature table that can be read safely" in refused(
        inside("train", in_folder.toml, "--pert-features", "evil.pt")
    )
    assert not (in_folder.folder / "executed").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_one_sentence_and_nothing_half_written(in_folder):
    screen = in_folder
    assert "no room is left" in refused(
        command("train", screen.toml, *FAST, "--pert-features", screen.table, "--name", "full", limit=6000)
    )
    assert not (screen.folder / "runs" / "full").exists()
    assert train(screen, "--name", "whole").returncode == 0
    said = refused(
        command("predict", "runs/whole", "--cells", screen.cells, "--perturb", "G4", "-o", "p.h5ad", limit=6000)
    )
    assert "p.h5ad could not be written: no room is left" in said
    assert not list(screen.folder.glob("*p.h5ad*"))


def test_ctrl_c_says_how_to_go_on(in_folder):
    import signal
    import time

    def as_in_a_terminal():
        # what runs the tests may have interrupts ignored or blocked, which a new process would inherit
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    words = ["train", str(in_folder.toml), *FAST, "training.max_steps=100000", "--pert-features", str(in_folder.table)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from stateshift.cli.main import run; run()", *words],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    metrics = in_folder.folder / "runs" / "made_state_tiny" / "metrics.csv"
    while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "go on with  stateshift train --resume runs/made_state_tiny" in said
    assert said.endswith("stateshift: stopped.\n")
    assert "Traceback" not in said


def test_resume_takes_overrides(in_folder):
    assert train(in_folder).returncode == 0
    done = inside("train", "--resume", "runs/made_state_tiny", "training.max_steps=15")
    assert done.returncode == 0, done.stderr
    assert "\n15," in (in_folder.folder / "runs" / "made_state_tiny" / "metrics.csv").read_text()


def test_nothing_to_train_names_the_argument():
    assert "Name an EXPERIMENT.toml" in refused(inside("train"))
