"""A comparison's parts by Hydra's launchers, and two comparisons at once in one folder."""

import json
import multiprocessing

import pandas as pd
import pytest

from stateshift.effects.models import BASELINES, EFFECT_MODELS
from stateshift.errors import StateshiftError
from stateshift.evaluation import compare
from stateshift.evaluation.comparison.experiment.candidates import Candidate
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder


@pytest.fixture
def start(screen):
    """Compare ridge on the made screen, in a folder of some name."""
    screen.toml.write_text(screen.toml.read_text() + f'[features]\ntable = "{screen.table}"\n')

    def started(*overrides, into, **options):
        return compare(screen.toml, overrides, models="ridge", output=screen.folder / into, **options)

    return started


def test_a_launcher_gives_the_rows_of_one_process(start):
    alone = start(into="alone")
    launched = start("hydra/launcher=basic", into="launched")
    pd.testing.assert_frame_equal(launched.rows, alone.rows)
    assert launched.notes == alone.notes
    # the launcher is no setting of the comparison: without it, and with nothing left to do, it is the same
    pd.testing.assert_frame_equal(start(into="launched").rows, alone.rows)


def test_two_processes_share_the_work(start, screen):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = {"folds": "T", "n_folds": 2}
    found = start("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", into="launched", **options)
    assert set(found.rows["model"]) == set(BASELINES)
    for fold in ("T0", "T1"):
        assert len(list((screen.folder / "launched" / "scores" / fold).glob("*.csv"))) == len(BASELINES)
    pd.testing.assert_frame_equal(found.rows, start(into="alone", **options).rows)


def test_what_fails_in_a_job_is_named_and_tried_again(start, monkeypatch):
    def failing(train, features, seed):
        raise ZeroDivisionError("nothing to divide by")

    with monkeypatch.context() as patch:
        patch.setitem(EFFECT_MODELS, "knn", failing)
        found = start("hydra/launcher=basic", into="compared")
    assert "knn" not in set(found.rows["model"])
    assert found.notes == [
        "knn,features,seed=0 failed in test and is left out: ZeroDivisionError: nothing to divide by"
    ]
    again = start("hydra/launcher=basic", into="compared")
    assert "knn" in set(again.rows["model"])
    assert again.notes == []


def test_two_comparisons_at_once_in_one_folder_end_as_one(start, screen):
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=start, kwargs={"into": "shared"}) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    shared = screen.folder / "shared"
    table = pd.read_csv(shared / "table.csv", keep_default_na=False, na_values=[""])
    alone = start(into="alone")
    written = pd.read_csv(alone.folder / "table.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(table, written)
    scored = json.loads((shared / "comparison.json").read_text())["scored"]
    assert sorted(c["model"] for c in scored) == sorted(BASELINES)
    assert not list(shared.rglob("*.part*"))


def test_what_another_process_is_at_is_waited_for_and_not_done_twice(start, screen):
    alone = start(into="compared")
    candidate = Candidate("mean", False, "–", 0)
    folder = ComparisonFolder(screen.folder / "compared")
    kept = folder.scores("test", candidate)
    scores = kept.read_text()
    kept.unlink()
    fork = multiprocessing.get_context("fork")
    with folder.alone(f"test,{candidate.name}"):
        waiting = fork.Process(target=start, kwargs={"into": "compared"})
        waiting.start()
        kept.write_text(scores)
        written = kept.stat().st_mtime_ns
    waiting.join()
    assert waiting.exitcode == 0
    assert kept.stat().st_mtime_ns == written
    table = pd.read_csv(alone.folder / "table.csv", keep_default_na=False, na_values=[""])
    assert set(table["model"]) == set(BASELINES)


def test_what_a_job_leaves_to_another_process_is_told(start, screen):
    start(into="compared")
    candidate = Candidate("mean", False, "–", 0)
    folder = ComparisonFolder(screen.folder / "compared")
    folder.scores("test", candidate).unlink()
    with folder.alone(f"test,{candidate.name}"):
        found = start("hydra/launcher=basic", into="compared")
    assert found.notes == ["mean,seed=0 is not finished in test: give the same command again when it is, or to do it."]


def test_a_launcher_that_is_not_installed_or_unknown_is_told(start, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StateshiftError, match=r"hydra/launcher=joblib is not installed: pip install"):
        start("hydra/launcher=joblib", into="compared")
    with pytest.raises(StateshiftError, match="Could not find 'hydra/launcher/jobli'"):
        start("hydra/launcher=jobli", into="compared")
