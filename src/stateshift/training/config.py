"""Hydra's config groups, shipped with the package, composed with a user's overrides."""

from __future__ import annotations

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
    return config


def _reason(error: Exception) -> str:
    """Hydra's own first sentence, without its advice on struct flags."""
    return next(line for line in str(error.__cause__ or error).splitlines() if line.strip()).strip().rstrip(".") + "."
