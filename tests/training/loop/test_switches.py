"""Each switch of the config trains a real model and does what it says."""

import csv
import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.training import resume, train
from stateshift.training.loop.average import WeightAverage

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=2", "model.set_size=8", "model.dropout=0",
    "data.batch_size=3", "training.max_steps=6", "training.val_every=3", "training.lr=1e-2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def start(screen):
    def start(name, *words):
        return train(screen.toml, [*SMALL, *words], pert_features=screen.table, output_dir=screen.folder, name=name)

    return start


def rows(run):
    with open(run / "metrics.csv") as handle:
        return list(csv.DictReader(handle))


def column(run, name):
    return np.array([float(row[name]) for row in rows(run) if row[name] != ""])


def weights(run, name="last"):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_checkpointed_gradients_are_the_same_gradients(start):
    plain, again = weights(start("plain")), weights(start("again", "training.gradient_checkpointing=true"))
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=0)


def test_a_compiled_model_trains_to_the_same_losses(start):
    plain, compiled = start("plain"), start("compiled", "training.compile=true")
    np.testing.assert_allclose(column(compiled, "val_loss"), column(plain, "val_loss"), atol=1e-4)
    assert weights(compiled).keys() == weights(plain).keys()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_train_to_losses_near_those_of_32_bits(start, precision):
    plain, other = start("plain"), start("other", f"training.precision={precision}")
    tolerance = 1e-3 if precision == "64-true" else 0.02
    np.testing.assert_allclose(column(other, "val_loss"), column(plain, "val_loss"), rtol=tolerance)
    kind = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    assert weights(other)["model.project_out.0.weight"].dtype == kind


def test_accumulated_batches_make_one_step(start):
    run = start("run", "training.accumulate=4")
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 6
    assert stored["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 24


def test_the_rate_warms_up_and_falls_along_a_cosine(start):
    run = start("run", "training.warmup_steps=2", "training.schedule=cosine", "training.val_every=1")
    np.testing.assert_allclose(
        column(run, "lr"), 1e-2 * np.array([0.5, 1, *(0.5 * (1 + np.cos(np.pi * np.arange(5) / 4)))]), atol=1e-9
    )


def test_a_clipped_gradient_changes_the_weights(start):
    plain, clipped = weights(start("plain")), weights(start("clipped", "training.gradient_clip=1e-9"))
    name = "model.basal_encoder.0.weight"
    assert not torch.equal(plain[name], clipped[name])


def test_the_average_is_what_is_validated_and_kept_as_best(start):
    run = start("run", "training.ema=0.5", "training.select_by=val_loss", "training.max_steps=3")
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 3
    averages, best = stored["callbacks"]["WeightAverage"]["averages"], weights(run, "best")
    for name, value in averages.items():
        torch.testing.assert_close(best[name], value)
    assert not torch.equal(best["model.project_out.0.weight"], weights(run)["model.project_out.0.weight"])


def test_an_average_of_half_precision_weights_goes_where_they_stay():
    average, module, trainer = WeightAverage(0.99), torch.nn.Linear(2, 2).bfloat16(), SimpleNamespace(global_step=0)
    # as a checkpoint of a training in another precision has it
    average.load_state_dict({"averages": {n: p.detach().clone() for n, p in module.named_parameters()}, "steps": 0})
    average.on_train_start(trainer, module)
    torch.nn.init.constant_(module.weight, 1.0)
    for trainer.global_step in range(1, 1001):
        torch.nn.init.constant_(module.weight, 1.0 if trainer.global_step < 100 else 1.5)
        average.on_train_batch_end(trainer, module, None, None, 0)
    assert average.averages["weight"].mean().item() == pytest.approx(1.5, abs=1e-3)


def test_training_stops_when_nothing_gets_better_and_a_resume_says_so(start):
    words = ("training.lr=1e-12", "training.patience=2", "training.val_every=1", "training.select_by=val_loss")
    run = start("run", *words)
    assert len(rows(run)) < 6
    with pytest.raises(StateshiftError, match=r"stopped at step .*, 2 validations after its best"):
        resume(run)
    resume(run, ["training.patience=50"])
    assert column(run, "step")[-1] == 6


@pytest.mark.parametrize(("by", "best"), [("pearson_delta", np.argmax), ("val_loss", np.argmin)])
def test_the_best_is_the_best_by_what_it_is_selected_by(start, by, best):
    run = start("run", f"training.select_by={by}", "training.val_every=1", "training.lr=5e-2")
    values = column(run, "val_pearson_delta" if by == "pearson_delta" else "val_loss")
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["global_step"] == best(values)


def test_tensorboard_reads_the_rows_of_metrics(start):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = start("run", "training.loggers=[tensorboard]")
    events = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("val_loss")
    assert [event.step for event in events] == [0, 3, 6]
    np.testing.assert_allclose([event.value for event in events], column(run, "val_loss"), rtol=1e-6)


def wandb_records(path):
    """The records of an offline run, out of the blocks of its log (LevelDB's: 32 KiB, pieces with 7 bytes before)."""
    from wandb.proto.wandb_internal_pb2 import Record

    log, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(log):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield Record.FromString(record)
            record = b""


def test_wandb_keeps_the_config_and_the_rows_of_metrics_without_a_network(start, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    start("another", "training.loggers=[wandb]")
    run = start("run", "training.loggers=[wandb]", "seed=1")
    wandb.teardown()  # its own process writes the files, and here has done so
    (written,) = run.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(written))
    history = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    np.testing.assert_allclose([row["val_loss"] for row in history], column(run, "val_loss"))
    (begun,) = (record.run for record in records if record.HasField("run"))
    assert (begun.display_name, begun.project) == ("run", "stateshift")
    config = {item.key: json.loads(item.value_json) for record in records for item in record.run.config.update}
    config |= {item.key: json.loads(item.value_json) for record in records for item in record.config.update}
    assert (config["training"]["max_steps"], config["seed"]) == (6, 1)


def test_a_logger_that_is_not_installed_is_refused_with_the_command(start, screen, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "wandb" else find_spec(name, *more)
    )
    with pytest.raises(StateshiftError, match=r"wandb, which is not installed: pip install 'stateshift\[tracking\]'"):
        start("run", "training.loggers=[wandb]")
    assert not (screen.folder / "run").exists()


def test_a_loss_that_is_no_number_stops_names_the_batch_and_keeps_the_last_state(start, screen, monkeypatch):
    from stateshift.transition import TransitionModule

    step, steps = TransitionModule.training_step, []

    def breaking(self, batch, i):
        steps.append(batch["pert_name"][0])
        if len(steps) == 5:
            batch = batch | {"pert_cell_emb": batch["pert_cell_emb"] * float("nan")}
        return step(self, batch, i)

    monkeypatch.setattr(TransitionModule, "training_step", breaking)
    with pytest.raises(StateshiftError, match="The loss became nan at step 5, in the batch of") as told:
        start("run")
    assert f"{steps[4]} in " in str(told.value)
    assert torch.load(screen.folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in weights(screen.folder / "run").values())


def test_no_room_for_a_checkpoint_is_said_and_the_last_one_stays(start, screen, monkeypatch):
    import errno
    import os

    replace, seen = os.replace, []

    def full(source, target):
        seen.append(os.path.basename(target))
        if seen.count("last.ckpt") == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StateshiftError, match=r"last.ckpt could not be written: no room is left"):
        start("run")
    monkeypatch.undo()
    run = screen.folder / "run"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 0
    assert column(resume(run), "step").tolist() == [0, 3, 6]
