import csv
import json
import shutil

import numpy as np
import pytest
import torch

from stateshift.cells import read_all
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import resume, train
from stateshift.training.data import prepare
from stateshift.training.train import refuse_other_processes

FAST = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.lr=1e-3"]


def steps(n: int, every: int = 5) -> list[str]:
    return [*FAST, f"training.max_steps={n}", f"training.val_every={every}"]


@pytest.fixture
def run(screen):
    return train(screen.toml, steps(10), pert_features=screen.table, output_dir=screen.folder / "runs", name="first")


def metrics(run) -> list[dict]:
    with open(run / "metrics.csv") as handle:
        return list(csv.DictReader(handle))


def test_a_run_holds_what_the_contract_names(run, screen):
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {
        "config.yaml", "experiment.toml", "genes.txt", "features.pt", "features.pt.json", "effects.npz", "splits.json",
        "metrics.csv", "validation.npz", "versions.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt",
    }  # fmt: skip
    opened = open_run(run)
    assert opened.genes() == [f"GENE{i}" for i in range(20)]
    assert opened.splits()["test"]["K562"] == {"G4": 24}
    assert json.loads((run / "versions.json").read_text())["torch"].startswith(torch.__version__.split("+")[0])
    assert str(screen.folder) not in "".join(p.read_text() for p in run.glob("*.*ml"))


def test_the_first_row_is_the_untrained_model_and_the_best_is_the_least(run):
    rows = metrics(run)
    assert [int(r["step"]) for r in rows] == [0, 5, 10]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    losses = [float(r["val_loss"]) for r in rows]
    assert best["global_step"] == int(rows[int(np.argmin(losses))]["step"])


def test_training_lowers_the_loss_on_held_out_perturbations(screen):
    run = train(screen.toml, steps(120, 40), pert_features=screen.table, output_dir=screen.folder, name="longer")
    losses = [float(r["val_loss"]) for r in metrics(run)]
    assert min(losses) < 0.9 * losses[0]


def test_the_same_seed_gives_the_same_run(screen, run):
    again = train(screen.toml, steps(10), pert_features=screen.table, output_dir=screen.folder / "runs", name="again")
    assert [r["val_loss"] for r in metrics(again)] == [r["val_loss"] for r in metrics(run)]


def test_a_resumed_run_goes_on_and_appends(run):
    before = metrics(run)
    assert resume(run, ["training.max_steps=20"]) == run
    rows = metrics(run)
    assert rows[: len(before)] == before
    assert [int(r["step"]) for r in rows] == [0, 5, 10, 15, 20]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 20
    assert open_run(run).config()["training"]["max_steps"] == 20


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(screen):
    plain = {"pert_features": screen.table, "output_dir": screen.folder}
    whole = train(screen.toml, [*steps(20), "model.dropout=0"], name="whole", **plain)
    halves = train(screen.toml, [*steps(10), "model.dropout=0"], name="halves", **plain)
    resume(halves, ["training.max_steps=20"])
    assert metrics(halves) == metrics(whole)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.hidden=32", "can't be changed on a resume"),
        ("training.max_step=32", "did you mean `training.max_steps`"),
        ("training.lr=0.5", "can't be changed on a resume"),
        ("training.val_every=0", "has to be a whole number of at least 1"),
        ("training.max_steps=10", "is at step 10 already"),
    ],
)
def test_a_resume_refuses_what_it_cannot_honour_and_leaves_the_run_alone(run, override, told):
    before = (run / "config.yaml").read_text()
    with pytest.raises(StateshiftError, match=told):
        resume(run, [override])
    assert (run / "config.yaml").read_text() == before
    resume(run, ["training.max_steps=15"])


def test_the_last_step_is_validated_and_saved_also_between_validations(screen):
    run = train(screen.toml, steps(7), pert_features=screen.table, output_dir=screen.folder, name="seven")
    assert [int(r["step"]) for r in metrics(run)] == [0, 5, 7]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7


@pytest.mark.parametrize("override", ["training.precision=99", "training.accelerator=warp", "training.accelerator=mps"])
def test_a_start_that_fails_leaves_no_run(screen, override):
    with pytest.raises(StateshiftError, match=override.split("=")[0]):
        train(screen.toml, [*steps(5), override], pert_features=screen.table, output_dir=screen.folder, name="r")
    assert not (screen.folder / "r").exists()


@pytest.mark.parametrize("override", ["model.dropout=2", "model.set_size=abc", "model.layers=0", "model.basal_mlp=3"])
def test_impossible_shapes_are_named(screen, override):
    with pytest.raises(StateshiftError, match=override.split("=")[0]):
        train(screen.toml, [*steps(5), override], pert_features=screen.table, output_dir=screen.folder, name="r")


def test_a_damaged_part_of_a_run_is_named(run, screen, tmp_path):
    for name in ("config.yaml", "splits.json", "effects.npz", "features.pt", "features.pt.json"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(b"{ damaged")
        with pytest.raises(StateshiftError, match=name.split(".")[0]):
            predict(run, cells=screen.cells, split="test", output=tmp_path / "p.h5ad")
        (run / name).write_bytes(whole)
    config = (run / "config.yaml").read_text()
    for name, text, said in (
        ("splits.json", '{"train": {"K562": -1}}', "splits.json is damaged"),
        ("config.yaml", config.replace("seed: 0", "seed: p"), "config.yaml is damaged: its seed is of another kind"),
        (
            "config.yaml",
            config.replace("  encoder_layers:", "  no_encoder_layers:"),
            "model.no_encoder_layers is read by",
        ),
        ("config.yaml", config.replace("  heads: 2", "  heads: 1"), "config.yaml: its heads is 2, not 1"),
    ):
        whole = (run / name).read_bytes()
        (run / name).write_text(text)
        with pytest.raises(StateshiftError, match=said):
            predict(run, cells=screen.cells, split="test", output=tmp_path / "p.h5ad")
        (run / name).write_bytes(whole)


def test_a_text_table_trains_too(screen):
    import pandas as pd

    table = FeatureTable.load(screen.table)
    pd.DataFrame(table.vectors, index=pd.Index(table.genes, name="gene")).to_csv(screen.folder / "t.csv")
    run = train(screen.toml, steps(5), pert_features=screen.folder / "t.csv", output_dir=screen.folder, name="r")
    np.testing.assert_allclose(FeatureTable.load(run / "features.pt").vectors, table.vectors, rtol=1e-5)


def test_a_moved_run_resumes_and_predicts(run, screen, tmp_path):
    moved = tmp_path / "elsewhere" / "deeper"
    moved.parent.mkdir()
    shutil.move(run, moved)
    output = predict(moved, cells=screen.cells, perturb=["G4"], output=tmp_path / "p.h5ad")
    assert output.is_file()


@pytest.mark.parametrize(
    ("environment", "asked", "refused"),
    [
        ({}, 4, False),
        ({"SLURM_NTASKS": "4"}, 1, False),  # a job's own shell, which starts one process
        ({"SLURM_NTASKS": "4"}, 4, True),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, 4, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, 1, True),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_NAME": "bash"}, 2, False),
        ({"SLURM_NTASKS": "1", "TORCHELASTIC_RUN_ID": "1"}, 4, False),
    ],
)
def test_processes_that_slurm_did_not_start_are_not_waited_for(screen, monkeypatch, environment, asked, refused):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not refused:
        assert refuse_other_processes(asked) is None
        return
    with pytest.raises(StateshiftError, match=rf"asks for {asked} processes, and Slurm started \d here.*srun"):
        train(screen.toml, [f"training.devices={asked}"], pert_features=screen.table, output_dir=screen.folder)
    assert not list(screen.folder.glob("made_*"))


def test_an_existing_run_is_never_overwritten(run, screen):
    with pytest.raises(StateshiftError, match="exists with another run: choose another --name"):
        train(screen.toml, steps(5), pert_features=screen.table, output_dir=run.parent, name="first")


def test_a_missing_vector_stops_training_by_name_before_anything_is_written(screen):
    table = screen.folder / "short.pt"
    FeatureTable.load(screen.table).subset(["G1", "G2", "G3"]).save(table)
    with pytest.raises(StateshiftError, match="1 perturbed genes have no feature vector: G4"):
        train(screen.toml, steps(5), pert_features=table, output_dir=screen.folder / "runs")
    assert not (screen.folder / "runs").exists()


def test_missing_drop_leaves_the_perturbation_out_by_name(screen, caplog):
    table = screen.folder / "short.pt"
    FeatureTable.load(screen.table).subset(["G1", "G3", "G4"]).save(table)
    with caplog.at_level("WARNING"):
        run = train(screen.toml, steps(5), pert_features=table, missing="drop", output_dir=screen.folder, name="r")
    assert "no feature vector for G2: left out are G1+G2, G2" in caplog.text
    assert "leaves nothing of the declared" not in caplog.text
    splits = open_run(run).splits()
    assert {p for contexts in splits.values() for ps in contexts.values() for p in ps} == {"G1", "G3", "G4"}


def test_a_split_that_missing_drop_empties_is_told(screen, caplog):
    table = screen.folder / "short.pt"
    FeatureTable.load(screen.table).subset(["G1", "G2", "G4"]).save(table)
    with caplog.at_level("WARNING"):
        train(screen.toml, steps(1), pert_features=table, missing="drop", output_dir=screen.folder, name="r")
    assert "leaves nothing of the declared val split" in caplog.text


def test_features_named_in_the_toml_are_built(screen):
    screen.toml.write_text(screen.toml.read_text() + '[features]\nsource = "onehot"\n')
    run = train(screen.toml, steps(5), output_dir=screen.folder, name="r")
    table = FeatureTable.load(run / "features.pt")
    np.testing.assert_array_equal(table.matrix(["G1", "G2", "G3", "G4"]), np.eye(4))


def test_esm2_features_named_in_the_toml_are_of_its_layer_and_pooling(screen):
    from stateshift.proteins import embed_proteins, load_esm2

    sequences = {"G1": "MKVLA", "G2": "MWWPQ", "G3": "MGGSERT", "G4": "MNNIDK"}
    records = [f">{gene} GN={gene}\n{sequence}\n" for gene, sequence in sequences.items()]
    (screen.folder / "x.fasta").write_text("".join(records))
    wanted = 'source = "esm2"\nfasta = "x.fasta"\nlayer = 2\npooling = "max"\n'
    screen.toml.write_text(screen.toml.read_text() + f"[features]\n{wanted}")
    run = train(screen.toml, steps(2), output_dir=screen.folder, name="r")
    expected = dict(embed_proteins(load_esm2(), sequences, layer=2, pooling="max"))
    table = FeatureTable.load(run / "features.pt")
    np.testing.assert_allclose(
        table.matrix(list(sequences)), np.stack([expected[gene] for gene in sequences]), atol=1e-5
    )
    assert list(screen.folder.glob("*.resume")) == []


def test_features_of_an_override_win_over_those_of_the_toml(screen):
    screen.toml.write_text(screen.toml.read_text() + f'[features]\ntable = "{screen.table}"\n')
    run = train(screen.toml, [*steps(5), "features=onehot"], output_dir=screen.folder, name="onehot")
    assert FeatureTable.load(run / "features.pt").provenance["source"] == "onehot"
    assert open_run(run).config()["features"] == "onehot"
    words = [*steps(5), f"features='{screen.table}'"]
    run = train(screen.toml, words, output_dir=screen.folder, name="table")
    np.testing.assert_array_equal(
        FeatureTable.load(run / "features.pt").vectors, FeatureTable.load(screen.table).vectors
    )
    assert str(screen.folder) not in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("choice", "told"),
    [("onehott", "no feature source `onehott` .did you mean `onehot`"), ("gone.pt", "there is no such feature table")],
)
def test_features_that_are_not_there_are_told_before_any_cell_is_read(screen, choice, told):
    screen.cells.write_bytes(b"never read")
    with pytest.raises(StateshiftError, match=told):
        train(screen.toml, [*steps(5), f"features={choice}"], output_dir=screen.folder, name="r")


def test_no_features_at_all_names_the_ways_out(screen):
    with pytest.raises(StateshiftError, match="pass --pert-features TABLE.pt"):
        train(screen.toml, steps(5), output_dir=screen.folder)


def test_run_table_of_the_toml_gives_the_model_and_its_overrides(screen):
    words = ", ".join(f'"{w}"' for w in steps(5))
    screen.toml.write_text(
        screen.toml.read_text() + f'[run]\nmodel = "state_tiny"\noverrides = [{words}]\nname = "toml"\n'
    )
    run = train(screen.toml, pert_features=screen.table, output_dir=screen.folder)
    assert run.name == "toml"
    assert open_run(run).config()["model"]["hidden"] == 16


def test_without_a_validation_split_a_tenth_of_the_cells_is_kept_out_of_everything_else(screen):
    screen.write_toml('[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n')
    experiment, cells, split = read_all(screen.toml)
    data = prepare(experiment, cells, split, pert_features=screen.table)
    assert (data.split == "val").sum() == 2 * 5 * 2
    assert (data.split == "train").sum() == 2 * 5 * 22
    assert data.effects.n_cells.tolist() == [22] * 10
    run = train(screen.toml, steps(5), pert_features=screen.table, output_dir=screen.folder, name="r")
    assert open_run(run).splits()["val"]["A549"] == dict.fromkeys(["G1", "G1+G2", "G2", "G3", "G4"], 2)


def test_features_that_are_the_same_for_all_genes_are_refused(screen):
    table = FeatureTable.load(screen.table)
    same = screen.folder / "same.pt"
    FeatureTable(table.genes, np.ones_like(table.vectors), {"source": "table"}).save(same)
    with pytest.raises(StateshiftError, match="features are the same for all"):
        train(screen.toml, steps(5), pert_features=same, output_dir=screen.folder, name="r")
    assert not (screen.folder / "r").exists()
