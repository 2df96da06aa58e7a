"""What all tests share: where the real data lie, and one thread a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for trials, or a skip that says so."""
    folder = Path(os.environ.get("STATESHIFT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data for trials are not here ({folder}); set STATESHIFT_SHARED_DATA to their folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run several processes at once: one thread each keeps them from fighting."""
    import torch

    torch.set_num_threads(1)
