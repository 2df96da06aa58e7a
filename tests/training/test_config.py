import re
from dataclasses import fields

import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.training import compose_config
from stateshift.training.config import configs_dir
from stateshift.training.settings import DataSettings, TrainingSettings
from stateshift.transition.optimiser import Optimiser


def test_overrides_reach_the_config():
    config = compose_config(["model=state_sm", "training.max_steps=7", "seed=3"])
    assert (config["model"]["name"], config["model"]["hidden"]) == ("state_sm", 672)
    assert (config["training"]["max_steps"], config["seed"]) == (7, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=state_small", "There is no model `state_small` \\(did you mean `state_sm`\\?\\)"),
        ("training.max_step=5", "training.max_step is read by nothing \\(did you mean `training.max_steps`\\?\\)"),
        ("training.max_steps", "is no override: write key=value"),
        ("training.max_steps=0", "training.max_steps=0 has to be a whole number of at least 1"),
        ("data.batch_size=x", "data.batch_size=x has to be a whole number"),
        ("training.lr=-1", "training.lr=-1 has to be a number above 0"),
        ("seed=-1", "seed=-1 has to be a whole number of at least 0"),
        ("training.max_steps={", "Overrides training.max_steps={"),
        ("+training.warmup=5", "training.warmup is read by nothing \\(did you mean `warmup_steps`\\?\\)"),
        ("+model.hiden=5", "model.hiden is read by nothing \\(did you mean `hidden`\\?\\)"),
        ("training.max_steps = 5", "`training.max_steps = 5`: write it without spaces, training.max_steps=5"),
        ("training.max_steps=5 seed=1", "`training.max_steps=5 seed=1` is more than one override"),
        ("+sed=5", "sed is read by nothing \\(did you mean `seed`\\?\\)"),
        ("training.schedule=cosin", "training.schedule=cosin is no choice \\(did you mean `cosine`\\?\\)"),
        ("training.select_by=pearson", "training.select_by=pearson is no choice \\(did you mean `pearson_delta`"),
        ("training.loggers=[tensorbord]", "tensorbord is none \\(did you mean `tensorboard`"),
        ("training.ema=1", "training.ema=1 has to be a number between 0 and 1"),
        ("training.precision=16-true", "training.precision=16-true is no choice"),
        ("training.strategy=fsd", "training.strategy=fsd is no choice \\(did you mean `fsdp`"),
        ("features=3", "features=3 has to be a source, as onehot, or a table's file"),
        ("seed=0,1", "Several values make a sweep: add --multirun"),
        ("model=state_tiny,state_sm", "Several values make a sweep: add --multirun"),
        ("training.patience=0", "training.patience=0 has to be a whole number of at least 1"),
    ],
)
def test_wrong_overrides_are_one_sentence(override, message):
    with pytest.raises(StateshiftError, match=message):
        compose_config([override])


def test_averaged_weights_and_weights_cut_up_exclude_each_other():
    with pytest.raises(StateshiftError, match="training.ema averages whole weights, which training.strategy=fsdp"):
        compose_config(["training.ema=0.9", "training.strategy=fsdp"])


def test_all_that_is_wrong_with_a_config_is_told_at_once():
    with pytest.raises(InputProblems) as told:
        compose_config(["training.lr=0", "data.batch_size=0", "training.strategy=zero"])
    assert len(told.value.problems) == 3


@pytest.mark.parametrize("kind", [TrainingSettings, DataSettings])
def test_every_setting_stands_in_the_shipped_configs_and_is_read_somewhere(kind):
    group = kind.__name__.removesuffix("Settings").lower()
    names = {f.name for f in fields(kind)}
    assert set(compose_config()[group]) == names
    sources = [p.read_text() for p in (configs_dir().parent / "src" / "stateshift").rglob("*.py")]
    reading = "\n".join(text for text in sources if "class TrainingSettings" not in text)
    shared = {f.name for f in fields(Optimiser)}
    unread = [n for n in names - shared if not re.search(rf"settings\.{n}\b|\[\"{n}\"\]", reading)]
    assert unread == []


def test_the_season_s_model_stands_beside_the_backbone_with_a_token_a_source_and_every_gene():
    model = compose_config(["model=challenge"])["model"]
    assert (model["name"], model["start"], model["encoder"], model["output_space"]) == (
        "challenge", "backbone", "sources", "all",
    )  # fmt: skip
