"""What the measured tables in docs/reliability.md were made with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def script(name: str) -> ModuleType:
    """A script of that folder as a module; one script finds another by its name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """``scripts/bench/faults.py``: damaged files."""
    return script("faults")


@pytest.fixture(scope="session")
def kills(faults) -> ModuleType:
    """``scripts/bench/kills.py``: stages that are killed."""
    return script("kills")
