from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stateshift.cells.prepare.training_cells import find_training_cells
from stateshift.errors import InputProblems

LABELS = pd.DataFrame(
    [(c, p) for c in ("K562", "RPE1") for p in ("ctrl", "A", "B")], columns=["context", "perturbation"]
).assign(batch="")


@pytest.fixture
def training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def find(text: str, output: str = "out.h5ad", **more: object) -> list[str]:
        Path("e.toml").write_text(text)
        mask, _, said = find_training_cells("e.toml", LABELS, "ctrl", raw=Path("raw.h5ad"), output=Path(output), **more)
        return [f"{c} {p}" for c, p in LABELS[["context", "perturbation"]].to_numpy()[mask]], said

    return find


def test_a_held_out_context_gives_neither_perturbed_nor_control_cells(training):
    cells, said = training('[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE1" = "test"\n')
    assert cells == ["K562 ctrl", "K562 A", "K562 B"]
    assert said == []


def test_held_out_perturbations_of_a_training_context_go_alone(training):
    cells, _ = training('[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n[fewshot."d.RPE1"]\ntest = ["B"]\n')
    assert cells == ["K562 ctrl", "K562 A", "K562 B", "RPE1 ctrl", "RPE1 A"]


@pytest.mark.parametrize("pattern", ["raw.h5ad", "*.h5ad", ".", "{out,other}.h5ad", "sub/../out.h5ad"])
def test_the_dataset_is_that_whose_pattern_names_the_file(training, pattern):
    cells, _ = training(f'[datasets]\nother = "x/y.h5ad"\nd = "{pattern}"\n[training]\nd = "train"\nother = "train"\n')
    assert len(cells) == 6


def test_several_datasets_ask_for_a_name(training):
    text = '[datasets]\na = "*.h5ad"\nb = "out.h5ad"\n[training]\na = "train"\n[zeroshot]\n"b.RPE1" = "test"\n'
    with pytest.raises(InputProblems, match="out.h5ad belongs to a, b: pass --dataset"):
        training(text)
    assert len(training(text, dataset="a")[0]) == 6
    with pytest.raises(InputProblems, match=r"\[datasets\] has no `c`"):
        training(text, dataset="c")


def test_an_output_that_no_dataset_names_is_refused(training):
    with pytest.raises(InputProblems, match=r'names neither else.h5ad nor raw.h5ad \(d = "out.h5ad"\)'):
        training('[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n', output="else.h5ad")


def test_a_misspelt_context_is_refused_where_the_dataset_is_one_file(training):
    with pytest.raises(InputProblems, match="no cell of d is a `RPE2` .did you mean `RPE1`"):
        training('[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE2" = "test"\n')


def test_what_lies_in_another_file_of_the_dataset_is_said(training):
    cells, said = training(
        '[datasets]\nd = "*.h5ad"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE1" = "test"\n"d.HepG2" = "val"\n'
        '[fewshot."d.K562"]\ntest = ["B", "C"]\n'
    )
    assert cells == ["K562 ctrl", "K562 A"]
    assert said == ["not in this file of the dataset: [fewshot] d.K562 C, [zeroshot] d.HepG2"]


def test_problems_of_the_toml_and_of_the_labels_come_together(training):
    with pytest.raises(InputProblems) as raised:
        training(
            '[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE2" = "test"\n"d.K562" = "tset"\n'
        )
    assert len(raised.value.problems) == 2
    assert not any("no .h5ad" in p for p in raised.value.problems)


def test_an_experiment_that_trains_on_nothing_here_is_refused(training):
    with pytest.raises(InputProblems, match="nothing to train on"):
        training('[datasets]\nd = "out.h5ad"\n[zeroshot]\n"d.RPE1" = "test"\n"d.K562" = "test"\n')


def test_the_mask_is_boolean_and_as_long_as_the_labels(training, tmp_path):
    Path("e.toml").write_text('[datasets]\nd = "out.h5ad"\n[training]\nd = "train"\n')
    mask, _, _ = find_training_cells("e.toml", LABELS, "ctrl", raw=Path("raw.h5ad"), output=tmp_path / "out.h5ad")
    assert mask.dtype == np.bool_
    assert mask.sum() == len(LABELS)
