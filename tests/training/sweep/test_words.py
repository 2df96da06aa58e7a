import pytest

from stateshift.errors import StateshiftError
from stateshift.training.sweep.launch import refuse_absent_launcher
from stateshift.training.sweep.words import SweepWords, run_name, run_names, values_of


def test_words_are_taken_apart_and_multiplied():
    words = SweepWords.parse(
        ["seed=range(2)", "training.max_steps=5", "model=state_sm,state_tiny", "hydra/launcher=joblib"]
    )
    assert (words.fixed, words.hydra) == (["training.max_steps=5"], ["hydra/launcher=joblib"])
    assert words.swept == {"model": ["state_sm", "state_tiny"], "seed": ["0", "1"]}
    assert words.combinations() == [[f"model={m}", f"seed={s}"] for m in ("state_sm", "state_tiny") for s in (0, 1)]
    assert run_names(words)[-1] == "model=state_tiny,seed=1"


def test_a_value_that_stands_twice_is_one_run():
    assert SweepWords.parse(["seed=1,1,2"]).swept == {"seed": ["1", "2"]}


def test_values_are_what_hydra_makes_of_them():
    words = ["features='a b/it.pt'", "training.lr=1e-3", "training.gradient_clip=null", "training.loggers=[wandb]"]
    keys = ["training.lr", "features", "training.gradient_clip", "training.loggers"]
    assert values_of(words, keys) == {
        "training.lr": 0.001, "features": "a b/it.pt", "training.gradient_clip": None, "training.loggers": ["wandb"],
    }  # fmt: skip


def test_two_runs_of_one_name_are_refused():
    with pytest.raises(StateshiftError, match="Two runs of the sweep would be called features=a-b.pt"):
        run_names(SweepWords.parse(["features=a/b.pt,a-b.pt"]))


def test_a_name_that_no_file_system_takes_is_refused():
    with pytest.raises(StateshiftError, match="too long: sweep over fewer keys"):
        run_name({"features": "x" * 300})


@pytest.mark.parametrize("word", ["seed={1", "model.dropout=interval(0,1)", "model=glob(*)", "seed=range(3,1)"])
def test_what_is_no_list_of_values_is_refused_by_name(word):
    with pytest.raises(StateshiftError) as told:
        SweepWords.parse([word])
    assert word in str(told.value)


def test_a_launcher_is_missed_whether_or_not_another_is_there(monkeypatch):
    def no_package(name):
        raise ModuleNotFoundError(f"No module named {name.split('.')[0]!r}")

    for find in (no_package, lambda name: None):
        monkeypatch.setattr("importlib.util.find_spec", find)
        with pytest.raises(StateshiftError, match=r"hydra/launcher=joblib is not installed: pip install"):
            refuse_absent_launcher(["seed=0,1", "hydra/launcher=joblib"])
    refuse_absent_launcher(["hydra/launcher=basic"])
