"""The wheel, alone in an empty environment outside the checkout, runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
UNREACHABLE = "after connection broken by"


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command outside the checkout, without the variables that would lead it back."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))}
    return subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)


def skip_where_the_index_is_unreachable(done: subprocess.CompletedProcess[str]) -> None:
    """Installing needs the package index; nothing else is excused."""
    if done.returncode and UNREACHABLE in done.stderr:
        pytest.skip(f"the package index is unreachable: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, REPOSITORY, cwd=folder)
    skip_where_the_index_is_unreachable(done)
    return next(folder.glob("*.whl"))


def test_the_wheel_ships_configs_rules_and_the_demo_checkpoint(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "stateshift/configs/config.yaml",
        "stateshift/configs/model/state_sm.yaml",
        "stateshift/configs/examples/starter.toml",
        "stateshift/configs/examples/esm_genetic_example.toml",
        "stateshift/data/demo_esm.pt",
        "stateshift/data/toy/toy.fasta",
        "stateshift/data/toy/toy.pkl",
        "stateshift/evaluation/report/report.css",
    ):
        assert needed in names
    checkpoint = zipfile.ZipFile(wheel).getinfo("stateshift/data/demo_esm.pt")
    assert checkpoint.file_size <= 3 * 2**20
    assert not any(name.startswith("tests/") for name in names)


def test_the_wheel_runs_the_demo_in_an_empty_environment(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "empty", cwd=tmp_path).check_returncode()
    bin_ = tmp_path / "empty" / "bin"
    installed = run(bin_ / "python", "-m", "pip", "install", wheel, cwd=tmp_path)
    skip_where_the_index_is_unreachable(installed)
    where = run(bin_ / "python", "-c", "import stateshift; print(stateshift.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "empty")
    done = run(bin_ / "stateshift", "demo", "--output", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ahead of `mean`" in done.stdout
    for name in ("report.html", "predicted.h5ad", "submission.vcc"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
