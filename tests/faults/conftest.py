"""The damage that the measured table in docs/reliability.md was made with, and a run to break."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "faults.py"


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """``scripts/bench/faults.py``."""
    spec = importlib.util.spec_from_file_location("bench_faults", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
