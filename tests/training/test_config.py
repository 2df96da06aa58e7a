import pytest

from stateshift.errors import StateshiftError
from stateshift.training import compose_config


def test_overrides_reach_the_config():
    config = compose_config(["model=state_sm", "training.max_steps=7", "seed=3"])
    assert (config["model"]["name"], config["model"]["hidden"]) == ("state_sm", 672)
    assert (config["training"]["max_steps"], config["seed"]) == (7, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=state_small", "There is no model `state_small` \\(did you mean `state_sm`\\?\\)"),
        ("training.max_step=5", "Key 'max_step' is not in struct|Could not override 'training.max_step'"),
        ("training.max_steps", "is no override: write key=value"),
        ("training.max_steps=0", "training.max_steps=0 has to be a whole number of at least 1"),
        ("data.batch_size=x", "data.batch_size=x has to be a whole number"),
        ("training.lr=-1", "training.lr=-1 has to be a number above 0"),
        ("seed=-1", "seed=-1 has to be a whole number of at least 0"),
        ("training.max_steps={", "Overrides training.max_steps={"),
    ],
)
def test_wrong_overrides_are_one_sentence(override, message):
    with pytest.raises(StateshiftError, match=message):
        compose_config([override])
