"""The wheel, in an environment that holds only what it declares, outside the checkout, runs the demo."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
UNREACHABLE = "after connection broken by"


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command outside the checkout, without the variables that would lead it back."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))}
    return subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)


def skip_where_the_index_is_unreachable(done: subprocess.CompletedProcess[str]) -> None:
    """Building needs hatchling from the package index; nothing else is excused."""
    if done.returncode and UNREACHABLE in done.stderr:
        pytest.skip(f"the package index is unreachable: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def lend(package: Distribution, site: Path) -> None:
    """An installed distribution, every file by a link: what is not among its files can't be imported."""
    held = Path(sysconfig.get_path("purelib"))
    for file in package.files or []:
        target = site / file
        if ".." not in file.parts and not target.is_symlink():  # NVIDIA's packages share some
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(held / file)


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


def test_the_wheel_runs_the_demo_beside_nothing_but_what_it_declares(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", "empty", cwd=tmp_path).check_returncode()
    python = tmp_path / "empty" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    run(*pip, wheel, cwd=tmp_path).check_returncode()
    package = next((tmp_path / "empty").glob("lib/python*/site-packages/stateshift"))
    declared = next(package.parent.glob("stateshift-*.dist-info/METADATA")).read_text().split("\n\n")[0]
    requirements = [line.partition(": ")[2] for line in declared.splitlines() if line.startswith("Requires-Dist: ")]
    needed_by = runpy.run_path(str(REPOSITORY / "scripts" / "licences.py"), run_name="licences")["needed_by"]
    for lent in needed_by(requirements).values():
        lend(lent, package.parent)
    strangers = run(python, "-c", "import pytest", cwd=tmp_path), run(python, "-c", "import gemmi", cwd=tmp_path)
    assert all("ModuleNotFoundError" in done.stderr for done in strangers)
    where = run(python, "-c", "import stateshift; print(stateshift.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "empty")
    done = run(python.with_name("stateshift"), "demo", "--output", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ahead of `mean`" in done.stdout
    for name in ("report.html", "predicted.h5ad", "submission.vcc"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
