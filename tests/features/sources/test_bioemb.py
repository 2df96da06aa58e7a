"""The source `bioemb`: a run's bottleneck vectors, and what they were fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.bioemb.trained import open_bioemb
from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features


@pytest.fixture
def tiny(monkeypatch) -> None:
    """The preset `genes` at a size for tests."""
    from stateshift.bioemb.model import PRESETS
    from stateshift.bioemb.settings import TrainingSettings

    monkeypatch.setitem(PRESETS, "small", {"layers": 1, "hidden": 16, "heads": 2, "feedforward": 16, "dropout": 0.0})
    loss, constraint, _, *others = TrainingSettings.__init__.__defaults__
    monkeypatch.setattr(TrainingSettings.__init__, "__defaults__", (loss, constraint, 2, *others))


@pytest.fixture
def trained(tmp_path, tiny):
    """Train on 20 genes, with some held out, and make the features of three."""
    vectors = np.random.default_rng(0).standard_normal((20, 6))
    FeatureTable([f"G{i}" for i in range(20)], vectors, {"source": "made", "demo": True}).save(tmp_path / "t.pt")
    (tmp_path / "genes.txt").write_text("G5\nG3\nG9\n")
    (tmp_path / "held.txt").write_text("G3\nG4\n")

    def make(*overrides: str) -> FeatureTable:
        quick = ["training.epochs=2", "model.bottleneck=4", "codes.k=4", f"output_dir={tmp_path}", "name=run"]
        train_bioemb("genes", [f"data.table={tmp_path / 't.pt'}", *quick, *overrides])
        named = {"gene_list": tmp_path / "genes.txt", "lookup": tmp_path / "run", "output": tmp_path / "f.pt"}
        return create_features(source="bioemb", **named)

    return make


def test_vectors_are_the_runs_own_and_a_transductive_fit_is_told(trained, tmp_path):
    table = trained("data.transductive=true")
    fine = FeatureTable.load(tmp_path / "run" / "features.pt")
    np.testing.assert_array_equal(table.vectors, fine.subset(["G5", "G3", "G9"]).vectors)
    told = table.provenance
    assert (told["fit"], told["fitted_of_these"], told["bottleneck"]) == ("transductive", ["G5", "G3", "G9"], 4)
    assert told["demo"]
    assert told["input_provenance"]["source"] == "made"


def test_a_fit_on_training_genes_only_is_marked(trained, tmp_path):
    told = trained(f"data.held_out={tmp_path / 'held.txt'}").provenance
    assert (told["fit"], told["fitted_of_these"], told["fitted_genes"]) == ("training genes only", ["G5", "G9"], 18)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "genes.txt").write_text("G5\n")
    with pytest.raises(StateshiftError, match="is no run of `stateshift bioemb train`"):
        create_features(source="bioemb", gene_list=tmp_path / "genes.txt", lookup=tmp_path, output=tmp_path / "f.pt")


@pytest.fixture
def wide(screen):
    """The experiment's four genes and 26 others, of 6 values each; beside the experiment as ``wide.pt``."""
    genes = [f"G{i}" for i in range(1, 31)]
    vectors = np.random.default_rng(0).standard_normal((30, 6))
    FeatureTable(genes, vectors, {"source": "made"}).save(screen.folder / "wide.pt")
    return screen.folder / "wide.pt"


@pytest.mark.usefixtures("tiny")
def test_a_table_is_fine_tuned_on_all_genes_but_those_that_the_experiment_holds_out(screen, wide):
    # G3 and G4 train in A549 as well; with their cells away from there, they are new
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G4"]\n[zeroshot]\n'
                      '"made.T98G" = "test"\n[fewshot."made.A549"]\nval = ["G3"]\ntest = ["G4"]\n')  # fmt: skip
    named = {"from_toml": screen.toml, "source": "bioemb", "lookup": wide}
    table = create_features(**named, output=screen.folder / "b.pt")
    told = table.provenance
    assert (table.genes, table.width, told["fit"], told["fitted_genes"]) == (
        ["G1", "G2", "G3", "G4"],
        64,
        "training genes only",
        29,
    )
    assert told["fitted_of_these"] == ["G1", "G2", "G3"]
    run = open_bioemb(screen.folder / "b_run")
    assert set(run.table.genes) - set(run.fitted) == {"G4"}
    everything = create_features(**named, output=screen.folder / "t.pt", transductive=True).provenance
    assert (everything["fit"], everything["fitted_genes"]) == ("transductive", 30)


@pytest.mark.usefixtures("tiny")
def test_an_experiments_features_name_the_table_and_what_is_fitted(screen, wide):
    from stateshift.cells import held_out_genes, read_experiment
    from stateshift.training import check_experiment
    from stateshift.training.data import made_features

    toml = screen.toml.read_text()
    for said, fit in (("", "training genes only"), ("transductive = true\n", "transductive")):
        screen.toml.write_text(f'{toml}[features]\nsource = "bioemb"\nlookup = "wide.pt"\n{said}')
        experiment = read_experiment(screen.toml)
        made = made_features(experiment, ["G1", "G4"], screen.folder / f"{fit}.pt", "error")
        assert (made.provenance["fit"], made.genes) == (fit, ["G1", "G4"])
    assert held_out_genes(experiment) == []  # each gene trains in some cell type
    screen.toml.write_text(f'{toml}[features]\nsource = "bioemb"\nlookup = "wide.pt"\ntransductive = "yes"\n')
    with pytest.raises(InputProblems, match="transductive = 'yes': true or false is needed"):
        read_experiment(screen.toml)
    screen.toml.write_text(f'{toml}[features]\nsource = "bioemb"\nlookup = "wid.pt"\n')
    with pytest.raises(InputProblems, match='lookup = "wid.pt": there is no such file'):
        check_experiment(screen.toml)


@pytest.mark.usefixtures("tiny")
def test_what_was_fine_tuned_before_is_read_and_other_vectors_are_no_part_of_it(screen, wide):
    named = {"from_toml": screen.toml, "source": "bioemb", "lookup": wide, "output": screen.folder / "b.pt"}
    first = create_features(**named)
    written = (screen.folder / "b_run" / "model.pt").stat().st_mtime_ns
    np.testing.assert_array_equal(create_features(**named, overwrite=True).vectors, first.vectors)
    assert (screen.folder / "b_run" / "model.pt").stat().st_mtime_ns == written
    FeatureTable(first.genes, np.eye(4)).save(wide, overwrite=True)
    with pytest.raises(StateshiftError, match="b_run is a run on another table"):
        create_features(**named, overwrite=True)


@pytest.mark.usefixtures("tiny")
def test_a_run_fitted_on_what_the_experiment_holds_out_is_told(screen, wide, caplog):
    screen.write_toml('[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n"made.K562" = "test"\n'
                      '[fewshot."made.A549"]\ntest = ["G4"]\n')  # fmt: skip
    words = [f"data.table={wide}", f"output_dir={screen.folder}", "training.epochs=1"]
    train_bioemb("genes", [*words, "name=all", "data.transductive=true"])
    train_bioemb("genes", [*words, "name=part", f"data.held_out={screen.toml}"])
    named = {"from_toml": screen.toml, "source": "bioemb"}
    create_features(**named, lookup=screen.folder / "part", output=screen.folder / "p.pt")
    assert "holds out" not in caplog.text
    create_features(**named, lookup=screen.folder / "all", output=screen.folder / "a.pt")
    assert "fitted on the vectors of G4, which made.toml holds out" in caplog.text


def test_what_a_table_is_fitted_on_has_to_be_said(wide, tmp_path):
    (tmp_path / "genes.txt").write_text("G1\n")
    named = {"gene_list": tmp_path / "genes.txt", "lookup": wide, "output": tmp_path / "f.pt"}
    with pytest.raises(
        StateshiftError, match=r"Which genes of .*wide\.pt may be fitted\?.*--from-toml.*--transductive"
    ):
        create_features(source="bioemb", **named)
    with pytest.raises(StateshiftError, match="--transductive: `[a-z_0-9]+` doesn't read it, bioemb does"):
        create_features(source="table", transductive=True, **named)


@pytest.mark.usefixtures("tiny")
def test_genes_that_the_input_knows_nothing_of_stay_missing(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((30, 6))
    vectors[3], vectors[4] = 0, vectors.mean(axis=0)
    genes = [f"G{i}" for i in range(30)]
    FeatureTable(genes, vectors, {"missing_policy": {"G4": "mean"}}).save(tmp_path / "t.pt")
    (tmp_path / "genes.txt").write_text("G3\nG4\nG5\n")
    named = {"gene_list": tmp_path / "genes.txt", "lookup": tmp_path / "t.pt", "transductive": True}
    with pytest.raises(StateshiftError) as told:
        create_features(source="bioemb", **named, output=tmp_path / "f.pt")
    assert "2 of 3 genes have no vector" in str(told.value)
    assert "G3: its vector is all zeros" in str(told.value)
    assert "G4: filled in (--missing mean) when the input was made" in str(told.value)
    table = create_features(source="bioemb", **named, output=tmp_path / "f.pt", missing="drop")
    assert table.genes == ["G5"]
