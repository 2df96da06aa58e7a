from pathlib import Path

import pytest

from stateshift.cells import read_experiment
from stateshift.cells.experiment import dataset_files
from stateshift.errors import InputProblems, StateshiftError


def problems_of(path: Path) -> str:
    with pytest.raises(InputProblems) as caught:
        read_experiment(path)
    return str(caught.value)


def test_cell_loads_tables_are_read_and_ours_are_optional(screen):
    experiment = read_experiment(screen.toml)
    assert experiment.datasets == {"made": [screen.cells]}
    assert experiment.training == ["made"]
    assert experiment.zeroshot == {("made", "T98G"): "test"}
    assert experiment.fewshot == {("made", "K562"): {"val": ["G3"], "test": ["G4"]}}
    assert experiment.columns == {}


def test_a_glob_with_braces_finds_what_cell_load_finds(screen, cell_maker):
    for name in ("a", "b", "c"):
        cell_maker(screen.folder / f"{name}.h5ad", n_cells=2)
    screen.toml.write_text(f'[datasets]\nd = "{screen.folder}/{{a,c}}.h5ad"\n[training]\nd = "train"\n')
    assert [p.name for p in read_experiment(screen.toml).datasets["d"]] == ["a.h5ad", "c.h5ad"]


def test_paths_are_also_looked_up_beside_the_toml(screen, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path.parent)
    screen.toml.write_text('[datasets]\nmade = "cells.h5ad"\n[training]\nmade = "train"\n')
    experiment = read_experiment(screen.toml)
    assert experiment.datasets["made"][0].name == "cells.h5ad"
    assert experiment.resolve("cells.h5ad") == screen.folder / "cells.h5ad"
    assert str(experiment.resolve("nowhere.pt")) == "nowhere.pt"
    (tmp_path.parent / "cells.h5ad").touch()
    assert experiment.resolve("cells.h5ad") == Path("cells.h5ad"), "the current folder's comes first"
    beside = read_experiment(screen.toml, beside_only=True)
    assert beside.resolve("cells.h5ad") == screen.folder / "cells.h5ad"


def test_all_problems_are_reported_at_once_with_suggestions(screen):
    screen.toml.write_text(
        '[datasets]\nmade = "nowhere.h5ad"\n"m.1" = "$HERE/x.h5ad"\n[training]\nmad = "train"\nmade = "test"\n'
        '[zeroshoot]\n"made.T98G" = "test"\n[zeroshot]\n"made.K562" = "tset"\n"m.1.K562" = "test"\nbare = "test"\n'
        '[fewshot."made.A549"]\nvall = ["G1"]\nval = ["G2"]\ntest = ["G2"]\n[columns]\npertubation = "x"\n'
    )
    said = problems_of(screen.toml)
    for part in (
        "[training] names dataset `mad`, absent from [datasets] (did you mean `made`?)",
        '[training] made = "test": the only value is "train"',
        "[zeroshoot] is no table of an experiment (did you mean `zeroshot`?)",
        "no split has that name (did you mean `test`?)",
        'write "dataset.celltype", quoted',
        "has no split `vall` (did you mean `val`?)",
        "puts G2 into val and into test",
        "[columns] has no key `pertubation` (did you mean `perturbation`?)",
        'made = "nowhere.h5ad": no .h5ad or .h5 file and no .zarr store is there',
        '[datasets] "m.1": a name without dots is needed',
        "no .zarr store is there ($… is not replaced by a variable of the environment",
    ):
        assert part in said


def test_an_unquoted_zeroshot_key_is_explained(screen):
    screen.write_toml('[training]\nmade = "train"\n[zeroshot]\nmade.T98G = "test"\n')
    assert 'quote the key, "made.T98G" = "test"' in problems_of(screen.toml)


def test_a_place_in_zeroshot_and_fewshot_is_refused(screen):
    screen.write_toml(
        '[training]\nmade = "train"\n[zeroshot]\n"made.K562" = "test"\n[fewshot."made.K562"]\ntest = ["G1"]\n'
    )
    assert "stands in [zeroshot] and in [fewshot]" in problems_of(screen.toml)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xef\xbb\xbf[training]\n", "begins with a byte order mark"),
        ("[training]\n# M\u00fcnster".encode("latin-1"), "is no text in UTF-8: save it in that encoding"),
        (b"[run]\nname = one\n", "Invalid value (at line 2, column 8), `name = one`: texts stand in quotes"),
        ("name = “one”\n".encode(), 'typographic quotes are letters here, write " in their place'),
        (b"[run]\nname = 'a'\nname = 'b'\n", "(at line 3, column 11), `name = 'b'`: the key is there twice."),
        (b"x = ['a', 1]\n", "Not a homogeneous array (line 1 column 1 char 0), `x = ['a', 1]`."),
    ],
)
def test_a_text_that_is_no_toml_is_told_with_its_line_and_the_way_out(screen, text, told):
    screen.toml.write_bytes(text)
    with pytest.raises(StateshiftError) as caught:
        read_experiment(screen.toml)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["[datasets\n", "x = \n", "[training]\n= 1\n", "x = " + 5000 * "[" + 5000 * "]"])
def test_broken_toml_is_one_sentence(screen, text):
    screen.toml.write_text(text)
    with pytest.raises(StateshiftError, match="is not valid TOML"):
        read_experiment(screen.toml)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training = 1\n", "`training` has to be a table"),
        ('[columns]\nperturbation = ["a"]\n', "[columns] perturbation = ['a']: a text is needed"),
        ('[features]\nlayer = "2"\n', "[features] layer = '2': a whole number is needed"),
        ("[features]\nlayer = 99\n", "[features] layer = 99: The model has layers 0 to 4"),
        (
            '[features]\ntable = "t.pt"\nsource = "onehot"\n',
            "[features] names a table and `source`, which makes one: leave",
        ),
        ('[features]\npooling = "avg"\n', "[features] pooling = 'avg': `avg` is no pooling"),
        ('[features]\npooling = "weighted"\n', "[features] pooling = 'weighted': `weighted` is no pooling"),
        ('[run]\noverrides = "seed=1"\n', "[run] overrides needs a list of texts"),
        ('[run]\noverrides = ["seed=${oc.env:HOME}"]\n', "[run] overrides holds `seed=${oc.env:HOME}`: Hydra's own"),
        ('[zeroshot]\n"made." = "test"\n', '[zeroshot] "made.": write "dataset.celltype"'),
        ('[zeroshot]\nmade.T98G = "test"\n"made.A549" = "tset"\n', '"made.A549" = "tset": no split has that name'),
        ('[fewshot.made.K562]\ntest = ["G1"]\n', '[fewshot.made.K562]: quote the key, [fewshot."made.K562"].'),
        ("[columns]\ncontrol = 0\n", '[columns] control = 0: a text is needed, as in  control = "0".'),
        ('[features]\ntable = ["a.pt"]\n', "[features] table = ['a.pt']: a text is needed"),
        ('[fewshot."made.K562"]\ntest = [["G1"]]\n', "needs lists of texts, as in"),
        ('[fewshot."made.K562"]\ntest = "G1"\n', "needs lists of texts, as in"),
    ],
)
def test_values_of_the_wrong_kind_are_told(screen, text, told):
    screen.toml.write_text(f'{text}[datasets]\nmade = "{screen.cells}"\n')
    assert told in problems_of(screen.toml)


def test_a_runs_own_toml_looks_beside_itself_alone(screen, monkeypatch, cell_maker):
    elsewhere = screen.folder / "elsewhere"
    elsewhere.mkdir()
    cell_maker(elsewhere / "cells.h5ad", n_cells=2)
    monkeypatch.chdir(elsewhere)
    screen.toml.write_text('[datasets]\nmade = "cells.h5ad"\n[training]\nmade = "train"\n')
    assert read_experiment(screen.toml, beside_only=True).datasets["made"] == [screen.cells]


def test_two_files_of_one_name_here_and_beside_the_toml_are_told_apart_by_the_user(screen, monkeypatch, cell_maker):
    elsewhere = screen.folder / "elsewhere"
    elsewhere.mkdir()
    for folder in (elsewhere, screen.folder):
        cell_maker(folder / "cells.h5ad", n_cells=2)
        (folder / "vectors.csv").touch()
    monkeypatch.chdir(elsewhere)
    names = '[datasets]\nmade = "cells.h5ad"\n[training]\nmade = "train"\n[features]\ntable = "vectors.csv"\n'
    screen.toml.write_text(names)
    told = f"there is one in {elsewhere} and another in {screen.folder}: write the whole path of what is meant."
    assert f'[datasets] made = "cells.h5ad": {told}' in problems_of(screen.toml)
    assert f'[features] table = "vectors.csv": {told}' in problems_of(screen.toml)
    monkeypatch.chdir(screen.folder)
    assert read_experiment(screen.toml).datasets["made"] == [screen.cells]


def test_a_missing_file_is_named():
    with pytest.raises(StateshiftError, match=r"nowhere\.toml: there is no such experiment file"):
        read_experiment("nowhere.toml")


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path, cell_maker, monkeypatch):
    folder = tmp_path / "screen [v2]"
    folder.mkdir()
    for name in ("one", "two"):
        cell_maker(folder / f"{name}.h5ad", contexts=["K562"])
    monkeypatch.chdir(folder)
    for pattern, files in (
        ("one.h5ad", ["one.h5ad"]),
        (f"{folder}/two.h5ad", ["two.h5ad"]),
        ("*.h5ad", ["one.h5ad", "two.h5ad"]),
        (str(folder), ["one.h5ad", "two.h5ad"]),
    ):
        assert [f.name for f in dataset_files(pattern, tmp_path)[1]] == files
    assert dataset_files("{one,three}.h5ad", tmp_path)[2] == ["three.h5ad is not there."]


def test_a_dataset_that_no_table_uses_is_left_out_and_noted(screen):
    from stateshift.training import check_experiment

    screen.write_toml('spare = "cells.h5ad"\n[training]\nmade = "train"\n')
    assert list(read_experiment(screen.toml).datasets) == ["made"]
    assert any(
        "[datasets] spare is used by no table and left out" in note for note in check_experiment(screen.toml).notes
    )
