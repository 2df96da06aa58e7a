"""The source `bioemb`: a run's bottleneck vectors, and what they were fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train on 20 genes, with some held out, and make the features of three."""
    from stateshift.bioemb.model import PRESETS

    monkeypatch.setitem(PRESETS, "small", {"layers": 1, "hidden": 16, "heads": 2, "feedforward": 16, "dropout": 0.0})
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


def test_vectors_are_the_runs_own_and_a_transductive_fit_is_told(trained, tmp_path, caplog):
    with caplog.at_level("INFO", logger="stateshift"):
        table = trained()
    fine = FeatureTable.load(tmp_path / "run" / "features.pt")
    np.testing.assert_array_equal(table.vectors, fine.subset(["G5", "G3", "G9"]).vectors)
    told = table.provenance
    assert (told["fit"], told["fitted_of_these"], told["bottleneck"]) == ("transductive", ["G5", "G3", "G9"], 4)
    assert told["demo"]
    assert told["input_provenance"]["source"] == "made"
    assert "for unseen genes train it with data.held_out" in caplog.text


def test_a_fit_on_training_genes_only_is_marked(trained, tmp_path):
    told = trained(f"data.held_out={tmp_path / 'held.txt'}").provenance
    assert (told["fit"], told["fitted_of_these"], told["fitted_genes"]) == ("training genes only", ["G5", "G9"], 18)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "genes.txt").write_text("G5\n")
    with pytest.raises(StateshiftError, match="is no run of `stateshift bioemb train`"):
        create_features(source="bioemb", gene_list=tmp_path / "genes.txt", lookup=tmp_path, output=tmp_path / "f.pt")
