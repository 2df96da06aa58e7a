"""Held-out cells in features and in gene choices."""

import logging

import anndata as ad
import numpy as np
import pytest

from stateshift.cells import estimate_effects_file
from stateshift.cells.checks.leakage import leak_notes
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features, fuse_features
from stateshift.files import sha256
from stateshift.training import check_experiment, train


def table(provenance, genes=("A", "B", "C")):
    return FeatureTable(list(genes), np.eye(len(genes)), provenance)


SCREEN = {"source": "screen", "lookup": "effects.h5ad", "measured_effects": True}
HELD_OUT = [("A", "K562"), ("B", "RPE1"), ("Z", "K562")]


def test_a_held_out_pair_that_was_measured_for_the_features_is_named():
    told = leak_notes(table(SCREEN | {"perturbed": {"k-562": ["A", "C"]}}), "f.pt", HELD_OUT)
    assert told == [
        "f.pt holds measured effects of 1 held-out pairs (source `screen`, effects.h5ad: A in K562): a score on them says "
        "nothing. Make it of the training split (stateshift effects estimate --split train) or of other contexts."
    ]


def test_a_held_out_perturbation_measured_elsewhere_is_told_unless_it_trains_too():
    made = table(SCREEN | {"perturbed": {"HepG2": ["A", "B"]}})
    assert leak_notes(made, "f.pt", HELD_OUT, trained=["B"]) == [
        "f.pt holds effects of 1 held-out perturbations, measured in HepG2 (source `screen`, effects.h5ad: A): they are new "
        "to the cells that train, and not to the features."
    ]


def test_older_tables_that_name_contexts_alone_count_every_gene_in_each():
    told = leak_notes(table(SCREEN | {"contexts": ["K562"]}), "f.pt", HELD_OUT)
    assert "1 held-out pairs" in told[0]
    filled = table(SCREEN | {"contexts": ["K562"], "missing_policy": {"A": "zero"}})
    assert leak_notes(filled, "f.pt", [("A", "K562")]) == []


@pytest.mark.parametrize(
    "wrapped",
    [
        {"source": "fusion", "measured_effects": True, "parts": [{"file": "a.pt", "provenance": SCREEN | {"contexts": ["K562"]}}]},
        {"source": "table", "lookup_provenance": SCREEN | {"contexts": ["K562"]}},
        {"source": "table", "lookup_provenance": {"source": "fusion", "parts": [{"provenance": SCREEN | {"contexts": ["K562"]}}]}},
    ],
)  # fmt: skip
def test_parts_and_tables_that_were_looked_up_count(wrapped):
    assert "1 held-out pairs (source `screen`" in leak_notes(table(wrapped), "f.pt", [("A", "K562")])[0]


def test_a_file_of_the_experiment_is_known_by_its_checksum_and_control_cells_are_no_leak(tmp_path):
    cells = tmp_path / "cells.h5ad"
    cells.write_bytes(b"cells")
    made = {"lookup": "cells.h5ad", "lookup_sha256": sha256(cells)}
    told = leak_notes(table(made | {"source": "theirs"}), "f.pt", HELD_OUT, files=[cells])
    assert told[0].startswith(
        "f.pt was made of cells.h5ad (source `theirs`, cells.h5ad), which holds this experiment's"
    )
    assert leak_notes(table(made | {"source": "expression"}), "f.pt", HELD_OUT, files=[cells]) == []
    cells.write_bytes(b"other cells")
    assert leak_notes(table(made | {"source": "theirs"}), "f.pt", HELD_OUT, files=[cells]) == []


def test_a_screen_of_the_experiment_itself_is_told_by_check_and_train_and_one_of_its_training_split_is_not(
    screen, caplog
):
    genes = screen.folder / "genes.txt"
    genes.write_text("G1\nG2\nG3\nG4\n")
    made = {}
    for split in (None, "train"):
        name = split or "all"
        effects = screen.folder / f"{name}.h5ad"
        estimate_effects_file(screen.toml, effects, split=split)
        made[name] = screen.folder / f"{name}.pt"
        create_features(source="screen", lookup=effects, gene_list=genes, width=4, output=made[name])
    own = "holds measured effects of"
    text = screen.toml.read_text()
    screen.toml.write_text(text + f'[features]\ntable = "{made["all"]}"\n')
    found = [note for note in check_experiment(screen.toml).notes if own in note]
    assert len(found) == 1
    assert "of 6 held-out pairs (source `screen`, all.h5ad: " in found[0]
    with caplog.at_level(logging.WARNING):
        train(screen.toml, ["training.max_steps=1", "model.hidden=8", "model.ffn=8", "model.heads=1", "model.layers=1",
            "model.set_size=8", "data.batch_size=2", "training.accelerator=cpu"], output_dir=screen.folder)  # fmt: skip
    assert found[0] in caplog.text
    fused = screen.folder / "fused.pt"
    fuse_features([made["all"], screen.table], fused)
    screen.toml.write_text(text + f'[features]\ntable = "{fused}"\n')
    assert any(own in note for note in check_experiment(screen.toml).notes)
    screen.toml.write_text(text + f'[features]\ntable = "{made["train"]}"\n')
    assert not any(own in note for note in check_experiment(screen.toml).notes)


@pytest.mark.parametrize(
    ("prepared", "told"),
    [
        (None, "cells.h5ad: nothing tells which cells obsm `X_hvg` was fitted on"),
        ({"experiment": ""}, "cells.h5ad: the genes of obsm `X_hvg` were chosen on all cells, held-out ones included"),
        ({"experiment": "other.toml"}, "chosen on the training cells of other.toml; those of made.toml may differ"),
        ({"experiment": "made.toml"}, None),
    ],
)
def test_genes_that_were_chosen_on_all_cells_are_told(screen, prepared, told):
    adata = ad.read_h5ad(screen.cells)
    adata.obsm["X_hvg"] = adata.X[:, :6].toarray()
    about = {"scale": "log1p", "embedding_genes": {"X_hvg": np.array(adata.var_names[:6], dtype=str)}}
    adata.uns["stateshift"] = about if prepared is None else about | {"prepared": prepared}
    adata.write_h5ad(screen.cells)
    screen.toml.write_text(screen.toml.read_text() + '[columns]\nembedding = "X_hvg"\n')
    notes = [n for n in check_experiment(screen.toml).notes if "fitted on" in n or "chosen on" in n]
    assert len(notes) == (told is not None)
    assert all(told in note for note in notes)
