"""Importing the package, its rooms' names and the help pages load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "scanpy", "anndata", "sklearn", "matplotlib", "esm", "cell_load", "cell_eval")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after some code."""
    report = "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return set(last[1:])


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import stateshift").isdisjoint(HEAVY)


@pytest.mark.parametrize("room", ["cells", "effects", "features", "training", "prediction", "evaluation", "challenge"])
def test_importing_a_room_loads_nothing_heavy(room):
    assert loaded_after(f"import stateshift.{room}").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["predict", "--help"],
        ["demo", "--help"],
        ["features", "create", "--help"],
        ["protein", "mutations", "--help"],
    ],
)
def test_help_loads_nothing_heavy(words):
    code = f"""
import sys
sys.argv = ["stateshift", *{words!r}]
from stateshift.cli.main import run
try:
    run()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded_after(code).isdisjoint(HEAVY)


def test_the_check_itself_sees_a_heavy_import():
    assert "torch" in loaded_after("import stateshift.transition")


@pytest.mark.parametrize("chosen", [None, "0"])
def test_torch_is_asked_for_large_pages_unless_the_user_says_otherwise(chosen, monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if chosen is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", chosen)
    code = "import os, stateshift; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (chosen or "1")
