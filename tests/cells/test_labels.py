import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import read_elem

from stateshift.cells.columns import Columns
from stateshift.cells.labels import standard_obs
from stateshift.cells.matrix.stored import opened
from stateshift.cells.matrix.tables import read_table
from stateshift.errors import InputProblems

COLUMNS = Columns("gene", "cell_type", "batch", "ctrl")


def obs(**changes):
    made = {"gene": ["ctrl", "A", "A+ctrl", "A+B"], "cell_type": ["K562"] * 4, "batch": ["1", "2", "1", "2"]}
    return pd.DataFrame(made | changes, index=["c1", "c2", "c3", "c4"])


def test_a_single_written_with_the_control_is_the_single():
    assert standard_obs(obs(), COLUMNS, "made", "cells.h5ad")["perturbation"].tolist() == ["ctrl", "A", "A", "A+B"]


def test_labels_are_strings_whatever_they_were():
    labels = standard_obs(obs(batch=pd.Categorical([1, 2, 1, 2], [3, 2, 1]), cell_type=[7, 7, 8, 8]), COLUMNS, "d", "f")
    assert labels["batch"].tolist() == ["1", "2", "1", "2"]
    assert labels["context"].tolist() == ["7", "7", "8", "8"]
    assert standard_obs(obs(), Columns("gene", "cell_type", None, "ctrl"), "d", "f")["batch"].tolist() == [""] * 4


def test_empty_and_spaced_labels_of_all_columns_are_refused_at_once():
    bad = obs(
        gene=["ctrl", np.nan, "A ", "A"],
        cell_type=pd.Categorical(["K562", None, None, "A549"]),
        batch=["1", " ", "1", "2"],
    )
    with pytest.raises(InputProblems) as caught:
        standard_obs(bad, COLUMNS, "made", "cells.h5ad")
    assert caught.value.problems == [
        "obs `cell_type` is empty in 2 cells (first: c2): fill it in, or drop those cells.",
        "obs `gene` is empty in 1 cells (first: c2): fill it in, or drop those cells.",
        "obs `gene` holds labels with spaces around them ('A '): strip them, "
        'adata.obs["gene"] = adata.obs["gene"].astype(str).str.strip().',
        "obs `batch` is empty in 1 cells (first: c2): fill it in, or drop those cells.",
    ]


def test_texts_that_python_writes_for_an_empty_value_are_refused_unless_they_are_the_control():
    with pytest.raises(InputProblems) as caught:
        standard_obs(obs(gene=["ctrl", "nan", "None", "nan"]), COLUMNS, "made", "cells.h5ad")
    assert caught.value.problems[0].startswith("obs `gene` says `None`, `nan` in 3 cells, which Python writes for an")
    named = Columns("gene", "cell_type", "batch", "None")
    assert standard_obs(obs(gene=["None", "A", "A", "B"]), named, "made", "f")["perturbation"].iloc[0] == "None"


def test_labels_that_read_like_others_are_refused_spelt_out():
    with pytest.raises(
        InputProblems, match=r"`gene` holds labels with letters that don't show \('A\\x1b\[2J', 'A\\u200b'\)"
    ):
        standard_obs(obs(gene=["ctrl", "A", "A\u200b", "A\x1b[2J"]), COLUMNS, "made", "cells.h5ad")


def test_categories_and_names_of_bytes_are_read_as_text(screen):
    with h5py.File(screen.cells, "r+") as handle:
        for name, item in (("categories", handle["obs/target_gene"]), ("_index", handle["obs"])):
            texts = np.char.encode(np.array(read_elem(item[name]), str), "utf-8")
            del item[name]
            item.create_dataset(name, data=texts).attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    with opened(screen.cells) as group:
        table = read_table(group, "obs")
    labels = standard_obs(table, Columns("target_gene", "cell_type", "batch", "non-targeting"), "made", "cells.h5ad")
    assert set(labels["perturbation"]) == {"non-targeting", "G1", "G2", "G3", "G4", "G1+G2"}
    assert all(isinstance(name, str) for name in labels.index)
