"""Hydra's config groups, shipped with the package, composed with a user's overrides."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stateshift.errors import InputProblems, StateshiftError, suggestion
from stateshift.training.settings import DataSettings, TrainingSettings, read_group, unknown_keys

GROUPS = ("model", "loss", "training", "data")
TOP_KEYS = ("name", "output_dir", "seed", "features")
RUN_KEYS = ("scale", "every_gene_scale", "feature_table", "init_from", "imported_from")
"""What a run's config holds besides."""
ENERGY_ALONE = {"energy": 1.0}
"""The loss of runs whose config names none."""


def configs_dir() -> Path:
    """The folder of config groups: inside the wheel, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parents[1] / "configs"


@contextlib.contextmanager
def hydra_configs() -> Iterator[Any]:
    """Hydra over the shipped groups; a Hydra that is at work already, as in a sweep, goes on afterwards."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    held = GlobalHydra.instance()
    outer = held.hydra
    held.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(configs_dir())):
            yield GlobalHydra.instance().hydra
    finally:
        held.clear()
        if outer is not None:
            held.initialize(outer)


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
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not equals:
            raise StateshiftError(f"`{override}` is no override: write key=value, as in model=state_sm.")
        if key != key.strip() or value != value.strip():
            raise StateshiftError(f"`{override}`: write it without spaces, {key.strip()}={value.strip()}.")
        group = configs_dir() / key
        choices = [f.stem for f in group.glob("*.yaml")] if group.is_dir() else []
        if choices and value not in choices:
            raise StateshiftError(f"There is no {key} `{value}`{suggestion(value, choices)}.{_several(override)}")
    try:
        with hydra_configs():
            config = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        if several := next((o for o in overrides if re.search(r"=[^'\"\[{]*\s[\w.]+=", o)), None):
            raise StateshiftError(f"`{several}` is more than one override: write each as a text of its own.") from error
        sweep = next(filter(None, map(_several, overrides)), "")
        raise StateshiftError(
            _unread(overrides) or f"Overrides {' '.join(overrides)}: {_reason(error)}{sweep}"
        ) from error
    check_config(config)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuse keys that nothing reads, and sizes and rates that can't train; all at once.

    Parameters
    ----------
    config
        As `compose_config` makes it, or as a run keeps it.

    Raises
    ------
    StateshiftError
        With a near miss of every key that nothing reads.
    """
    from stateshift.transition.checkpoint import MODEL_KEYS
    from stateshift.transition.losses import check_weights

    problems = unknown_keys("", config, {*GROUPS, *TOP_KEYS, *RUN_KEYS})
    problems += unknown_keys("model", config["model"], MODEL_KEYS)
    problems += read_group("training", TrainingSettings, config["training"])[1]
    problems += read_group("data", DataSettings, config["data"])[1]
    features = config.get("features")
    if features is not None and not (isinstance(features, str) and features):
        problems.append(f"features={features} has to be a source, as onehot, or a table's file.")
    seed = config["seed"]
    if not isinstance(seed, int) or seed < 0:
        problems.append(f"seed={seed} has to be a whole number of at least 0.")
    if len(problems) == 1:
        raise StateshiftError(problems[0])
    if problems:
        raise InputProblems("the config", problems)
    check_weights(config.get("loss", ENERGY_ALONE))


def idle_words(config: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Sentences on overrides that set what the config doesn't use.

    Examples
    --------
    >>> idle_words({"model": {}, "loss": {"sinkhorn": 0.0}, "training": {"lora": {"rank": 0}}}, ["loss.blur=0.1"])
    ['loss.blur=0.1 does nothing: loss.sinkhorn=0 computes no such term.']
    """
    used = {
        "training.esm_lr": (config["model"].get("unfreeze_esm_layers"), "no layer of ESM2 is trained"),
        "training.lora.": (config["training"]["lora"].get("rank"), "training.lora.rank=0 puts no adapters in"),
        "loss.blur": (config.get("loss", ENERGY_ALONE).get("sinkhorn"), "loss.sinkhorn=0 computes no such term"),
        "model.gene_decoder_widths": (config["model"].get("gene_decoder"), "there is no such decoder"),
    }
    return [
        f"{word} does nothing: {why}."
        for word in overrides
        for key, (is_used, why) in used.items()
        if word.lstrip("+").startswith(key) and not is_used
    ]


def training_settings(config: dict[str, Any]) -> TrainingSettings:
    """The ``training`` group of a checked config."""
    return TrainingSettings(**config["training"])


def _unread(overrides: Sequence[str]) -> str:
    """A sentence on the first override whose key there isn't; empty where all are there."""
    from hydra import compose
    from omegaconf import OmegaConf

    groups = [o for o in overrides if (configs_dir() / o.partition("=")[0]).is_dir()]
    with hydra_configs():
        default = OmegaConf.to_container(compose("config", overrides=groups), resolve=True)
    known = {*TOP_KEYS, *(f"{group}.{key}" for group in GROUPS for key in default[group])}
    known |= {f"training.lora.{key}" for key in default["training"]["lora"]}
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key not in known and key not in GROUPS:
            return f"{key} is read by nothing{suggestion(key, known)}."
    return ""


def _several(override: str) -> str:
    """What to do with an override of several values; empty where it has one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        sweeps = OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        return ""
    return " Several values make a sweep: add --multirun." if sweeps else ""


def _reason(error: Exception) -> str:
    """Hydra's own first sentence, without its advice on struct flags."""
    return next(line for line in str(error.__cause__ or error).splitlines() if line.strip()).strip().rstrip(".") + "."
