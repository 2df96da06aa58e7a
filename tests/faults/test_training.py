"""A training whose memory doesn't suffice, whose worker dies or whose clock jumps."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from stateshift.cells.sets import CellSets
from stateshift.errors import StateshiftError, enough_memory
from stateshift.training import resume, train

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=8",
    "training.val_every=4",
]  # fmt: skip


def start(screen, name, *words):
    return train(screen.toml, [*SMALL, *words], pert_features=screen.table, output_dir=screen.folder, name=name)


# in a process of its own: a first training, so that what it keeps is there before the limit is set, then a larger one
SHORT = """
import resource, sys
from pathlib import Path
from stateshift.training import train
toml, table, folder, *small = sys.argv[1:]
train(toml, small, pert_features=table, output_dir=folder, name="small")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**26
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
large = ["model.hidden=1024", "model.ffn=4096", "data.batch_size=16"]
try:
    train(toml, [*small, *large], pert_features=table, output_dir=folder, name="large")
except BaseException as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_shortage_of_memory_is_answered_with_the_batch_size_to_try(screen):
    words = [screen.toml, screen.table, screen.folder, *SMALL]
    done = subprocess.run([sys.executable, "-c", SHORT, *map(str, words)], capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()[-1]
    assert said.startswith("StateshiftError: The memory doesn't suffice ("), done.stderr
    assert "train anew under another --name with data.batch_size=8 training.accumulate=2" in said


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MemoryError()]
)
def test_shortages_of_every_kind_are_told_from_other_errors(error):
    with (
        pytest.raises(StateshiftError, match=r"The memory doesn't suffice \(.*\): take less\."),
        enough_memory("take less"),
    ):
        raise error
    with pytest.raises(RuntimeError, match="shapes differ"), enough_memory("take less"):
        raise RuntimeError("shapes differ")


def test_a_worker_that_is_killed_ends_in_a_sentence_and_the_run_goes_on(screen, monkeypatch):
    whole, sets = start(screen, "whole"), CellSets.__iter__

    def dying(self):
        for number, batch in enumerate(sets(self)):
            if number == 5 and torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    monkeypatch.setattr(CellSets, "__iter__", dying)
    with pytest.raises(StateshiftError, match=r"makes batches was killed.*--resume .*killed data\.num_workers=0"):
        start(screen, "killed", "data.num_workers=1")
    monkeypatch.undo()
    resume(screen.folder / "killed", ["data.num_workers=0"])
    assert weights(screen.folder / "killed") == weights(whole)


def test_a_clock_that_is_set_forth_and_back_changes_nothing(screen, monkeypatch):
    whole, now = start(screen, "whole"), time.time()
    jumps = itertools.cycle([0, 10**9, -(10**9), 3600, -3600])
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    halves = start(screen, "halves", "training.max_steps=4")
    resume(halves, ["training.max_steps=8"])
    assert weights(halves) == weights(whole)


def weights(run):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value.tolist() for name, value in state.items()}
