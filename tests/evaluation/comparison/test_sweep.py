"""The table of a sweep, from runs trained here."""

import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.evaluation import compare, comparison_table, evaluate
from stateshift.prediction import predict
from stateshift.training import sweep
from stateshift.training.sweep import SweepFolder

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.set_size=8", "model.start=none", "data.batch_size=2",
    "training.max_steps=4", "training.val_every=2", "training.lr=1e-2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(lasting_screen):
    words = [*SMALL, "model.layers=0,1", "seed=0,1"]
    made = sweep(lasting_screen.toml, words, pert_features=lasting_screen.table, output_dir=lasting_screen.folder)
    assert made.name == "made_sweep"
    return made


@pytest.fixture
def swept(trained, tmp_path):
    """A copy of the sweep, which a test may change."""
    return SweepFolder(shutil.copytree(trained, tmp_path / "made_sweep"))


def best(folder, name):
    curve = pd.read_csv(folder.run(name).metrics_file)
    return curve["val_pearson_delta"].max()


def test_a_row_is_a_combination_with_mean_and_deviation_over_its_seeds(swept):
    found = compare(swept.path)
    assert found.rows["model.layers"].tolist() == ["1", "0"]
    trained, failed = found.rows.to_dict("records")
    values = [best(swept, f"model.layers=1,seed={seed}") for seed in (0, 1)]
    assert values[0] != values[1]
    assert trained["val_pearson_delta"] == pytest.approx(np.mean(values))
    assert trained["val_pearson_delta_sd"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    assert [trained[key] for key in ("runs", "finished", "failed", "unfinished")] == [2, 2, 0, 0]
    assert [failed[key] for key in ("runs", "finished", "failed", "unfinished")] == [2, 0, 2, 0]
    assert np.isnan(failed["val_pearson_delta"])
    seconds = [swept.record(f"model.layers=1,seed={seed}").seconds for seed in (0, 1)]
    assert trained["seconds"] == pytest.approx(np.mean(seconds))
    assert [note.split(":")[0] for note in found.notes] == [f"model.layers=0,seed={s} failed" for s in (0, 1)]


def test_evaluations_in_the_runs_stand_beside_validation(swept, screen):
    scores = []
    for seed in (0, 1):
        run = swept.run(f"model.layers=1,seed={seed}").path
        predicted = predict(run, cells=screen.cells, split="test", output=run / "p.h5ad")
        summary = evaluate(predicted, screen.cells, output=run / "test").summary
        own = summary[(summary["context"] == "all contexts") & (summary["model"] == "state_tiny")]
        scores.append(own.set_index("metric")["mean"])
    row = compare(swept.path).rows.iloc[0]
    for metric in ("pearson_delta", "mae", "pds_l1"):
        values = [each[metric] for each in scores]
        assert row[f"test/{metric}"] == pytest.approx(np.mean(values))
        assert row[f"test/{metric}_sd"] == pytest.approx(np.std(values, ddof=1))


def test_a_run_at_work_or_stopped_is_counted_and_not_averaged(swept):
    name = "model.layers=1,seed=1"
    record = swept.record(name)
    record.state = "unfinished"
    swept.write_record(name, record)
    found = compare(swept.path)
    row = found.rows.iloc[0]
    assert (row["finished"], row["unfinished"]) == (1, 1)
    assert row["val_pearson_delta"] == best(swept, "model.layers=1,seed=0")
    assert np.isnan(row["val_pearson_delta_sd"])
    assert found.notes[-1].startswith(f"1 at work or stopped: {name};")


def test_runs_never_begun_are_counted_and_named(swept):
    swept.await_runs({"model.layers=1,seed=2": {"model.layers": 1, "seed": 2}, "model.layers=1,seed=0": {}})
    found = compare(swept.path)
    row = found.rows.iloc[0]
    assert [row[key] for key in ("runs", "finished", "waiting")] == [3, 2, 1]
    assert found.notes[-1] == "1 not begun: model.layers=1,seed=2."


def test_a_run_whose_validation_gave_no_number_has_a_note_and_counts_in_no_mean(swept):
    name = "model.layers=1,seed=1"
    curve = pd.read_csv(swept.run(name).metrics_file).assign(val_pearson_delta=np.nan)
    curve.to_csv(swept.run(name).metrics_file, index=False)
    found = compare(swept.path)
    assert found.rows.iloc[0]["val_pearson_delta"] == best(swept, "model.layers=1,seed=0")
    assert found.notes[-1] == f"Finished without a validation score, and in no mean: {name}."


def test_values_stand_as_hydra_writes_them(swept):
    for name, record in swept.records().items():
        record.values["model.layers"] = None if "layers=0" in name else True
        swept.write_record(name, record)
    assert set(compare(swept.path).rows["model.layers"]) == {"null", "true"}


def test_seeds_alone_make_one_row_and_a_moved_sweep_the_same_table(screen, tmp_path):
    made = sweep(screen.toml, [*SMALL, "seed=0,1"], pert_features=screen.table, output_dir=screen.folder)
    found = compare(made)
    assert (len(found.rows), found.keys, found.rows["runs"][0]) == (1, [], 2)
    shutil.move(made, tmp_path / "moved")
    pd.testing.assert_frame_equal(compare(tmp_path / "moved").rows, found.rows)
    assert comparison_table(found).row_count == 1


def test_the_command_prints_the_table_and_writes_its_rows_once(swept, tmp_path):
    arguments = ["compare", str(swept.path), "-o", str(tmp_path / "table.csv")]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert done.exit_code == 0
    assert "0 of 2" in done.output
    assert "model.layers=0,seed=0 failed: model.layers=0" in done.output
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "table.csv", dtype={"model.layers": str}), compare(swept.path).rows
    )
    assert isinstance(CliRunner().invoke(app, arguments).exception, StateshiftError)


def test_what_is_no_sweep_or_damaged_is_said(swept, tmp_path):
    with pytest.raises(StateshiftError, match="is no sweep's folder: `stateshift train EXPERIMENT --multirun"):
        compare(tmp_path)
    (swept.path / "jobs" / "model.layers=1,seed=0.json").write_text("{")
    with pytest.raises(StateshiftError, match=r"seed=0.json is damaged.*elete it"):
        compare(swept.path)


def test_the_train_command_sweeps(screen):
    words = [*SMALL, "seed=0,1", "--multirun", "--pert-features", str(screen.table), "--output-dir", str(screen.folder)]
    done = CliRunner().invoke(app, ["train", str(screen.toml), *words])
    assert done.exit_code == 0
    assert f"Next: stateshift compare {screen.folder / 'made_sweep'}" in done.output
    refused = CliRunner().invoke(app, ["train", "--resume", str(screen.folder / "made_sweep" / "seed=0"), "--multirun"])
    assert "leave out --multirun" in str(refused.exception)
