"""Sweeps of real trainings, in this process and through Hydra's launchers."""

import csv
import importlib.util
import subprocess
import sys

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.run import open_run
from stateshift.training import sweep, train
from stateshift.training.sweep import SweepFolder
from stateshift.training.sweep.folder import JobRecord

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.set_size=8", "data.batch_size=2",
    "training.max_steps=4", "training.val_every=2", "training.lr=1e-2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def start(screen):
    def start(*words, **options):
        options = {"pert_features": screen.table, "output_dir": screen.folder, "name": "sweep"} | options
        return SweepFolder(sweep(screen.toml, [*SMALL, *words], **options))

    return start


def rows(run):
    with open(run / "metrics.csv") as handle:
        return list(csv.DictReader(handle))


def test_every_combination_is_the_run_that_train_makes_of_its_words(start, screen):
    made = start("model.dropout=0.1,0.5", "seed=0,1")
    names = {f"model.dropout={dropout},seed={seed}" for dropout in (0.1, 0.5) for seed in (0, 1)}
    assert {p.name for p in made.path.iterdir() if (p / "genes.txt").is_file()} == names == set(made.records())
    assert all(record.state == "finished" and record.seconds > 0 for record in made.records().values())
    alone = train(
        screen.toml, [*SMALL, "model.dropout=0.5", "seed=1"], pert_features=screen.table, output_dir=screen.folder,
        name="alone",
    )  # fmt: skip
    assert rows(made.path / "model.dropout=0.5,seed=1") == rows(alone)


def test_features_are_swept_by_source_and_by_table_and_each_source_is_made_once(start, screen):
    made = start(f"features=onehot,'{screen.table}'", "seed=0,1", pert_features=None)
    assert FeatureTable.load(made.table("onehot")).genes == ["G1", "G2", "G3", "G4"]
    widths = {record.values["features"]: set() for record in made.records().values()}
    for name, record in made.records().items():
        widths[record.values["features"]].add(FeatureTable.load(made.run(name).features_file).width)
    assert widths == {"onehot": {4}, str(screen.table): {6}}
    stored = {open_run(made.path / name).config()["feature_table"] for name in made.records()}
    assert stored == {"../features/onehot.pt", "../../features.pt"}


@pytest.mark.parametrize("word", [[], ["features=onehot"]])
def test_features_that_all_runs_share_are_made_once_with_the_policy_of_the_experiment(start, screen, word):
    declared = "" if word else 'source = "onehot"\n'
    screen.toml.write_text(screen.toml.read_text() + f'[features]\nmissing = "mean"\n{declared}')
    made = start("seed=0,1", *word, pert_features=None)
    assert {open_run(made.path / name).config()["feature_table"] for name in made.records()} == {
        "../features/onehot.pt"
    }


def test_a_run_that_fails_is_named_with_its_error_and_stops_no_other(start):
    made = start("model.layers=0,1")
    records = {record.values["model.layers"]: record for record in made.records().values()}
    assert (records[0].state, records[1].state) == ("failed", "finished")
    assert records[0].error.startswith("model.layers=0")
    assert "model.layers=0 failed: model.layers=0" in made.log("model.layers=0").read_text()
    assert not made.run("model.layers=0").path.exists()


def test_where_all_fail_the_sweep_says_why(start):
    with pytest.raises(StateshiftError, match=r"No run of .* finished: model.layers=0"):
        start("model.layers=0", "seed=0,1")


def test_an_error_that_nobody_foresaw_fails_its_run_alone_and_leaves_its_trace(start, monkeypatch):
    from stateshift.transition import TransitionModule

    step = TransitionModule.training_step

    def breaking(self, batch, i):
        if self.model.config.layers == 2:
            raise ZeroDivisionError("nobody foresaw this")
        return step(self, batch, i)

    monkeypatch.setattr(TransitionModule, "training_step", breaking)
    made = start("model.layers=1,2")
    assert made.record("model.layers=1").state == "finished"
    assert made.record("model.layers=2").error == "ZeroDivisionError: nobody foresaw this"
    assert "in breaking" in made.log("model.layers=2").read_text()


def test_started_again_it_passes_over_what_is_finished_and_adds_what_is_new(start):
    made = start("seed=0,1")
    before = {name: made.run(name).last.stat().st_mtime_ns for name in made.records()}
    seconds = {name: record.seconds for name, record in made.records().items()}
    start("seed=0,1,2")
    assert {name: made.run(name).last.stat().st_mtime_ns for name in before} == before
    assert {name: made.record(name).seconds for name in before} == seconds
    assert made.record("seed=2").state == "finished"


KILLED = """
import os, signal, sys
from stateshift.training import sweep
from stateshift.training.loop.recorder import RunRecorder
toml, table, folder, *words = sys.argv[1:]
record, recorded = RunRecorder._record, []
def dying(self, trainer, module):
    record(self, trainer, module)
    recorded.append(trainer.global_step)
    if recorded == [0, 2, 4, 0, 2]:
        os.kill(os.getpid(), signal.SIGKILL)
RunRecorder._record = dying
sweep(toml, words, pert_features=table, output_dir=folder, name="sweep")
"""


def test_a_killed_sweep_goes_on_where_it_was_and_ends_as_one_never_killed(start, screen):
    words = ["seed=0,1,2"]
    arguments = [screen.toml, screen.table, screen.folder, *SMALL, *words]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -9, killed.stderr
    folder = SweepFolder(screen.folder / "sweep")
    states = {"seed=0": "finished", "seed=1": "unfinished", "seed=2": "waiting"}
    assert {n: r.state for n, r in folder.records().items()} == states
    finished = folder.run("seed=0").last.stat().st_mtime_ns
    start(*words)
    assert {r.state for r in folder.records().values()} == {"finished"}
    assert folder.run("seed=0").last.stat().st_mtime_ns == finished
    whole = start(*words, name="whole")
    for name in whole.records():
        assert rows(folder.run(name).path) == rows(whole.run(name).path)
        ours, theirs = (
            torch.load(f.run(name).last, weights_only=True)["state_dict"] for f in (folder, whole)
        )  # fmt: skip
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(start, screen):
    made = start("seed=0,1")
    made.run("seed=1").last.unlink()
    made.run("seed=1").best.unlink()
    made.write_record("seed=1", JobRecord({"seed": 1}))
    start("seed=0,1")
    assert made.record("seed=1").state == "finished"
    assert [row["step"] for row in rows(made.run("seed=1").path)] == ["0", "2", "4"]


def test_no_trained_weights_are_ever_removed(start):
    made = start("seed=0,1")
    for name in ("seed=0", "seed=1"):
        made.run(name).last.unlink()
        (made.run(name).path / "note.txt").write_text("mine")
    made.write_record("seed=1", JobRecord({"seed": 1}))
    start("seed=0,1")
    assert made.record("seed=0").state == "finished"
    assert "holds best.ckpt, and no last.ckpt to go on from" in made.record("seed=1").error
    assert all(made.run(n).best.is_file() and (made.run(n).path / "note.txt").is_file() for n in ("seed=0", "seed=1"))


def test_the_experiment_says_where_a_sweep_goes(screen, tmp_path):
    toml = screen.toml.with_name("elsewhere.toml")
    toml.write_text(screen.toml.read_text() + f'\n[run]\noutput_dir = "{tmp_path / "there"}"\n')
    made = sweep(toml, [*SMALL, "seed=0,1"], pert_features=screen.table, name="sweep")
    assert made == (tmp_path / "there" / "sweep").resolve()


def test_a_run_that_another_process_trains_is_left_to_it(start, caplog):
    made = start("seed=0,1")
    with made.alone("seed=2") as alone:
        assert alone
        start("seed=0,1,2")
    assert made.record("seed=2") is None  # its record is the other process's to write
    assert "seed=2 is being trained by another process" in caplog.text


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (["seed=0,1", "model.dropout=0"], {}, r"holds another sweep \(overrides .*model.dropout=0"),
        (["seed=0", "model.dropout=0,0.1"], {}, r'swept \["seed"\] there, \["model.dropout"\] now'),
        (["seed=0,1"], {"missing": "drop"}, r'missing null there, "drop" now'),
    ],
)
def test_another_sweep_in_the_folder_is_never_mixed_with(start, words, options, told):
    start("seed=0,1")
    with pytest.raises(StateshiftError, match=told):
        start(*words, **options)


def test_a_folder_of_other_content_is_left_alone(start, screen):
    (screen.folder / "sweep").mkdir()
    (screen.folder / "sweep" / "notes.txt").write_text("mine")
    with pytest.raises(StateshiftError, match="sweep exists with other content: choose another --name"):
        start("seed=0,1")
    assert [p.name for p in (screen.folder / "sweep").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=0"], "nothing to sweep over"),
        (["model=state_tiny,state_smal"], "There is no model `state_smal` .did you mean `state_sm`"),
        (["training.lrr=1,2"], "training.lrr is read by nothing .did you mean `training.lr`"),
        (["seed=0,-1"], "seed=-1 has to be a whole number"),
        (["features=onehott,onehot"], "no feature source `onehott`"),
        (["seed=0,1", "seed=2"], "seed stands twice"),
        (["model.dropout=interval(0,1)"], "a sweep goes over values"),
        (["seed=0,1", "hydra/launcher=jobib"], "hydra/launcher/jobib"),
        (["seed=0,1", "training.devices=2"], "2 processes a run start by repeating the command"),
    ],
)
def test_wrong_words_are_told_before_anything_is_made(screen, words, told):
    with pytest.raises(StateshiftError, match=told):
        sweep(screen.toml, words, output_dir=screen.folder, name="sweep")
    assert not (screen.folder / "sweep" / "jobs").exists() or not list((screen.folder / "sweep").glob("seed=*"))


def test_a_table_for_all_runs_and_swept_features_contradict_each_other(start):
    with pytest.raises(StateshiftError, match="--pert-features names the features of every run"):
        start("features=onehot,null")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_that_is_not_installed_is_told_with_the_extra(start, monkeypatch, launcher):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None)
    with pytest.raises(
        StateshiftError, match=rf"hydra/launcher={launcher} is not installed: pip install 'stateshift.s"
    ):
        start("seed=0,1", f"hydra/launcher={launcher}")
