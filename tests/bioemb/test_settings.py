"""A config is a preset or a file, with overrides; all that is wrong with it is said at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stateshift.bioemb.settings import Settings, presets_dir, read_settings
from stateshift.errors import InputProblems, StateshiftError

ALL = ["data.transductive=true"]


def test_presets_are_read_by_name_and_by_path():
    assert {file.stem for file in presets_dir().glob("*.yaml")} == {"genes", "proteins", "bbbp"}
    assert (
        read_settings("genes", ALL)
        == read_settings("configs/bioemb/genes.yaml", ALL)
        == read_settings(presets_dir() / "genes.yaml", ALL)
    )
    assert read_settings("proteins", ALL).model.bottleneck == 32
    assert read_settings("bbbp", ALL).downstream.label_column == "p_np"


def test_a_file_that_is_not_there_does_not_pass_for_a_preset_of_its_name(tmp_path, monkeypatch):
    for config in (tmp_path / "genes.yaml", "genes.yaml", "mine/genes.yaml"):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(StateshiftError, match="neither such a file nor such a preset.*did you mean `genes`"):
            read_settings(config, ALL)
    assert read_settings("configs/bioemb/genes.yaml", ALL) == read_settings("genes", ALL)


def test_the_preset_genes_is_what_a_feature_source_trains_with():
    preset = read_settings("genes", ALL)
    assert preset == replace(Settings(), name=preset.name, data=preset.data)


def test_overrides_come_after_the_file_with_their_types():
    settings = read_settings("genes", ["training.epochs=3", "data.table=a.pt", "training.learning_rate=1e-3", *ALL])
    assert (settings.training.epochs, settings.data.table, settings.training.learning_rate) == (3, "a.pt", 1e-3)


def test_all_problems_are_told_at_once_with_near_misses(write):
    path = write("c.yaml", "trainin: {}\ndata: {tabel: x}\nmodel: {bottleneck: wide}\ncodes: 3\n")
    with pytest.raises(InputProblems) as told:
        read_settings(path)
    text = str(told.value)
    assert "4 problems" in text
    assert "trainin is read by nothing (did you mean `training`?)" in text
    assert "data.tabel is read by nothing (did you mean `table`?)" in text
    assert "model.bottleneck=wide" in text
    assert "codes is a group of keys, not `3`" in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.loss=weighed", r"training\.loss=weighed is no choice \(did you mean `weighted`\?\)"),
        ("training.constraint=always_", "did you mean `always`"),
        ("training.epochs=0", r"training\.epochs=0 has to be 1 or more"),
        ("mlm.probability=1.5", "between 0 and 1"),
        ("training.learning_rate=-1", "between 0 and 1"),
        ("codes.k=1", "2 or more"),
        ("seed=-1", "seeds have to be 0 or more"),
    ],
)
def test_values_that_can_not_train_are_refused(override, said):
    with pytest.raises(InputProblems, match=said):
        read_settings("genes", [override, *ALL])


@pytest.mark.parametrize("both", [[], ["data.transductive=true", "data.held_out=genes.txt"]])
def test_what_is_fitted_has_to_be_said_once(both):
    with pytest.raises(
        InputProblems, match=r"either which genes.*data\.held_out=EXPERIMENT\.toml.*data\.transductive=true"
    ):
        read_settings("genes", both)


def test_an_unknown_config_and_a_word_without_a_value_are_refused(write):
    with pytest.raises(StateshiftError, match=r"neither such a file nor such a preset \(did you mean `genes`\?\)"):
        read_settings("gens")
    with pytest.raises(StateshiftError, match="`epochs` is no override"):
        read_settings("genes", ["epochs"])
    with pytest.raises(StateshiftError, match="is no config"):
        read_settings(write("c.yaml", "data: [unclosed\n"))
