"""A training killed at any point goes on to the same weights as one that was never killed."""

import os
import signal

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.run import open_run
from stateshift.training import resume, train
from stateshift.training.loop.watch import LossWatch

SETTINGS = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "model.dropout=0.3",
    "data.batch_size=3", "training.max_steps=12", "training.val_every=4", "training.lr=1e-2", "training.ema=0.9",
    "training.accumulate=2", "training.weight_decay=0.1", "training.warmup_steps=3", "training.schedule=cosine",
    "seed=2",  # with it, the best weights are written more than once
]  # fmt: skip


def start(screen, name):
    return train(screen.toml, SETTINGS, pert_features=screen.table, output_dir=screen.folder / "runs", name=name)


def killed(screen, name, patch):
    """Train in a child process that `patch` has kill itself."""
    child = os.fork()
    if child == 0:
        try:
            patch()
            start(screen, name)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return screen.folder / "runs" / name


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def at_batch(number):
    """Kill when that many batches were learnt from."""

    def patch():
        saw, seen = LossWatch.saw, []

        def dying(self, *args):
            seen.append(args)
            if len(seen) == number:
                kill_self()
            saw(self, *args)

        LossWatch.saw = dying

    return patch


def at_file(name, nth, written):
    """Kill just before or after the n-th time that a file takes its name."""

    def patch():
        replace, seen = os.replace, []

        def dying(source, target):
            if os.path.basename(target) == name:
                seen.append(target)
                if len(seen) == nth and not written:
                    kill_self()
            replace(source, target)
            if os.path.basename(target) == name and len(seen) == nth:
                kill_self()

        os.replace = dying

    return patch


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def contents(path):
    return torch.load(path, weights_only=True)


PLACES = {
    "at the first batch": at_batch(1),
    "within a step": at_batch(7),
    "before the second validation": at_batch(15),
    "near the end": at_batch(23),
    "between the best weights and the row": at_file("best.ckpt", 2, True),
    "as a row is written": at_file("metrics.csv", 2, False),
    "between the row and the last weights": at_file("metrics.csv", 3, True),
    "as the last weights are written": at_file("last.ckpt", 3, False),
    "just after the last weights": at_file("last.ckpt", 2, True),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_goes_on_to_the_same_weights_and_rows(screen, place):
    plain = start(screen, "plain")
    run = killed(screen, "killed", PLACES[place])
    resume(run)
    for name in ("last.ckpt", "best.ckpt"):
        assert same(contents(run / "checkpoints" / name), contents(plain / "checkpoints" / name))
    assert (run / "metrics.csv").read_text() == (plain / "metrics.csv").read_text()
    assert not list(run.rglob(".*"))


def test_a_run_killed_twice_goes_on_too(screen):
    plain = start(screen, "plain")
    run = killed(screen, "killed", at_batch(10))
    child = os.fork()
    if child == 0:
        try:
            at_batch(9)()
            resume(run)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    resume(run)
    assert same(contents(run / "checkpoints" / "last.ckpt"), contents(plain / "checkpoints" / "last.ckpt"))


def test_a_run_killed_before_its_first_checkpoint_starts_anew(screen):
    plain = start(screen, "plain")
    run = killed(screen, "killed", at_file("last.ckpt", 1, False))
    assert not open_run(run).last.is_file()
    resume(run, [f"data.cache={screen.folder}"])
    assert open_run(run).config()["data"]["cache"] is None  # a folder of this machine is no part of a run
    assert same(contents(run / "checkpoints" / "last.ckpt"), contents(plain / "checkpoints" / "last.ckpt"))


def test_the_best_holds_no_optimiser_and_both_load_without_pickles(screen):
    run = open_run(start(screen, "plain"))
    best, last = contents(run.best), contents(run.last)
    assert "optimizer_states" not in best
    assert "optimizer_states" in last
    assert run.best.stat().st_size < 0.5 * run.last.stat().st_size


def test_a_truncated_checkpoint_is_named(screen):
    run = open_run(start(screen, "plain"))
    run.last.write_bytes(run.last.read_bytes()[:-500])
    with pytest.raises(StateshiftError, match=r"last.ckpt can't be read"):
        resume(run.path, ["training.max_steps=20"])


def test_a_checkpoint_of_another_run_or_without_its_parts_is_refused(screen):
    run, words = open_run(start(screen, "plain")), ["training.max_steps=20"]
    other = open_run(train(screen.toml, [*SETTINGS, "training.lr=2e-2"], pert_features=screen.table,
                           output_dir=screen.folder / "runs", name="other"))  # fmt: skip
    whole = contents(run.last)

    def refused(content, reason):
        torch.save(content, run.last)
        with pytest.raises(StateshiftError, match=f"last.ckpt.*{reason}"):
            resume(run.path, words)

    refused(contents(other.last), "trained with training.lr=0.02, and config.yaml says 0.01")
    refused(
        {**whole, "callbacks": {k: v for k, v in whole["callbacks"].items() if k != "RandomState"}}, "lacks RandomState"
    )
    refused({**whole, "global_step": 11}, "counts of steps")
    moments = whole["optimizer_states"][0]
    but_one = {i: held for i, held in moments["state"].items() if i != 3}
    refused({**whole, "optimizer_states": [{**moments, "state": but_one}]}, "its optimizer_states are not as they were")
    name, weight = next(iter(whole["state_dict"].items()))
    altered = {**whole["state_dict"], name: weight.clone().index_fill_(0, torch.tensor(0), 0.5)}
    refused({**whole, "state_dict": altered}, "its state_dict are not as they were written")
    torch.save(whole, run.last)
    rows = run.metrics_file.read_text()
    run.metrics_file.write_text(other.metrics_file.read_text())
    with pytest.raises(StateshiftError, match=r"last row is not that of metrics.csv"):
        resume(run.path, words)
    run.metrics_file.write_text(rows)
    run.write_splits({})
    with pytest.raises(StateshiftError, match=r"no longer those of splits.json"):
        resume(run.path, words)


def test_a_run_that_lost_a_checkpoint_does_not_start_anew(screen):
    run = open_run(start(screen, "plain"))
    rows = run.metrics_file.read_text()
    for path in (run.best, run.last):
        path.unlink()
        with pytest.raises(StateshiftError, match=f"has lost its checkpoints/{path.name}"):
            resume(run.path, ["training.max_steps=20"])
    assert run.metrics_file.read_text() == rows
