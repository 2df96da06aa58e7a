"""Hydra's launchers run a sweep in other processes."""

import pytest

from stateshift.training import sweep
from stateshift.training.sweep import SweepFolder

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.set_size=8", "data.batch_size=2",
    "training.max_steps=2", "training.val_every=2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]),
    ],
)
def test_runs_of_other_processes_are_those_of_this_one(screen, package, words, capfd):
    pytest.importorskip(package)
    swept = [*SMALL, "model.layers=0,1"]
    options = {"pert_features": screen.table, "output_dir": screen.folder}
    here = SweepFolder(sweep(screen.toml, swept, name="here", **options))
    capfd.readouterr()
    there = SweepFolder(sweep(screen.toml, [*swept, *words], name="it's there", **options))
    assert "begins" not in capfd.readouterr().err
    assert {n: (r.state, r.error) for n, r in there.records().items()} == {
        n: (r.state, r.error) for n, r in here.records().items()
    }
    name = "model.layers=1"
    assert there.run(name).metrics_file.read_text() == here.run(name).metrics_file.read_text()
    assert "model.layers=1 begins" in there.log(name).read_text()
