"""Hydra's config groups, shipped with the package, composed with a user's overrides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError, suggestion


def configs_dir() -> Path:
    """The folder of config groups: inside the wheel, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parents[1] / "configs"


def compose_config(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The resolved training config as plain dicts.

    Parameters
    ----------
    overrides
        Hydra's words: ``model=state_sm``, ``training.max_steps=40000``.

    Raises
    ------
    StateshiftError
        A group, choice, key or value does not exist or does not parse.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not equals:
            raise StateshiftError(f"`{override}` is no override: write key=value, as in model=state_sm.")
        group = configs_dir() / key
        choices = [f.stem for f in group.glob("*.yaml")] if group.is_dir() else []
        if choices and value not in choices:
            raise StateshiftError(f"There is no {key} `{value}`{suggestion(value, choices)}.")
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(configs_dir())):
            config = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise StateshiftError(f"Overrides {' '.join(overrides)}: {_reason(error)}") from error
    check_numbers(config)
    return config


def check_numbers(config: dict[str, Any]) -> None:
    """Refuse sizes and rates that can't train."""
    leasts = {"training.max_steps": 1, "training.val_every": 1, "data.batch_size": 1, "data.num_workers": 0}
    for key, least in leasts.items():
        group, name = key.split(".")
        value = config[group][name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise StateshiftError(f"{key}={value} has to be a whole number of at least {least}.")
    data = config["data"]
    if not isinstance(data["by_batch"], bool):
        raise StateshiftError(f"data.by_batch={data['by_batch']} has to be true or false.")
    if isinstance(data["memory_gb"], bool) or not isinstance(data["memory_gb"], int | float) or data["memory_gb"] < 0:
        raise StateshiftError(f"data.memory_gb={data['memory_gb']} has to be a number of at least 0.")
    if not isinstance(data["cache"], str | None):
        raise StateshiftError(f"data.cache={data['cache']} has to be a folder.")
    if config["training"]["devices"] != 1:
        raise StateshiftError(f"training.devices={config['training']['devices']}: a run trains on one device.")
    rate, clip, seed = config["training"]["lr"], config["training"]["gradient_clip"], config["seed"]
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise StateshiftError(f"training.lr={rate} has to be a number above 0.")
    if clip is not None and (not isinstance(clip, int | float) or clip < 0):
        raise StateshiftError(f"training.gradient_clip={clip} has to be a number of at least 0.")
    if not isinstance(seed, int) or seed < 0:
        raise StateshiftError(f"seed={seed} has to be a whole number of at least 0.")


def _reason(error: Exception) -> str:
    """Hydra's own first sentence, without its advice on struct flags."""
    return next(line for line in str(error.__cause__ or error).splitlines() if line.strip()).strip().rstrip(".") + "."
