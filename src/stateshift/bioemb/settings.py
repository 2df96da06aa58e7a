"""One config for ``train`` and ``train-mlm``: a preset or a file, with overrides, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stateshift.bioemb.model.losses import CONSTRAINTS, LOSSES
from stateshift.bioemb.model.network import PRESETS
from stateshift.errors import InputProblems, StateshiftError, first_line, suggestion
from stateshift.files import yaml_text

CHOICES = {
    "data.names": ("record", "gene"),
    "model.preset": tuple(PRESETS),
    "training.loss": LOSSES,
    "training.constraint": CONSTRAINTS,
}


@dataclass
class DataSettings:
    """What is learned from: a table, or sequences, or molecules. Files are sought from where the command runs.

    Parameters
    ----------
    table
        A feature table (.pt, .csv, .tsv).
    fasta
        Protein sequences, embedded by ESM2.
    molecules
        A csv or tsv with SMILES, embedded by a Hugging Face encoder.
    names
        What names a protein: ``record``, the FASTA's first word, or ``gene``, its symbol (one protein each).
    name_column, smiles_column
        Of ``molecules``; by default a molecule is named by its SMILES.
    held_out
        What neither codes nor training see, though it is embedded all the same: a list of names, or an experiment's
        TOML, which holds out the genes that it perturbs and never trains on.
    transductive
        Instead: all are fitted. One of the two has to be said.
    """

    table: str | None = None
    fasta: str | None = None
    molecules: str | None = None
    names: str = "record"
    name_column: str | None = None
    smiles_column: str = "smiles"
    held_out: str | None = None
    transductive: bool = False


@dataclass
class EncoderSettings:
    """The frozen encoder of sequences or molecules; see `stateshift.proteins.load_esm2` for ESM2's options.

    Parameters
    ----------
    checkpoint
        An ESM2 name or file (None: the demo model); of molecules, a Hugging Face name or folder.
    layer, pooling
        Of ESM2.
    max_length, batch_size
        Of molecules: tokens that are read of each, molecules a pass.
    """

    checkpoint: str | None = None
    layer: int = -1
    pooling: str = "mean"
    max_length: int = 256
    batch_size: int = 32


@dataclass
class CodeSettings:
    """Codes; `shuffled` deals them to entities at random, which is the control."""

    k: int = 15
    max_levels: int = 50
    seed: int = 42
    shuffled: bool = False


@dataclass
class ModelSettings:
    """Size of the decoder and of the bottleneck, which is the width of the result."""

    preset: str = "small"
    bottleneck: int = 64


@dataclass
class TrainingSettings:
    """The training, and every how many epochs it is measured."""

    loss: str = "weighted"
    constraint: str = "always"
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 5e-4
    measure_every: int = 5
    accelerator: str = "auto"


@dataclass
class MlmSettings:
    """Masked language modelling of the encoder: share of tokens, tokens read of each sequence, training."""

    probability: float = 0.15
    max_length: int = 256
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-4


@dataclass
class DownstreamSettings:
    """A label file that the training is followed by; see `stateshift.bioemb.downstream.read_labels`."""

    labels: str | None = None
    name_column: str | None = None
    label_column: str = "label"
    task_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    task: str = "auto"


@dataclass
class Settings:
    """A whole config."""

    name: str = "bioemb"
    output_dir: str = "runs"
    seed: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    codes: CodeSettings = field(default_factory=CodeSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    mlm: MlmSettings = field(default_factory=MlmSettings)
    downstream: DownstreamSettings = field(default_factory=DownstreamSettings)

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return Path(self.output_dir) / self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, as YAML holds them."""
        return asdict(self)


def presets_dir() -> Path:
    """The folder of presets: inside the wheel, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "configs" / "bioemb"
    return shipped if shipped.is_dir() else package.parents[1] / "configs" / "bioemb"


def read_settings(config: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a file or of a preset (``genes``, ``proteins``, ``bbbp``), with overrides ``group.key=value``.

    Raises
    ------
    StateshiftError
        There is no such config, or it is no YAML.
    InputProblems
        Keys that nothing reads, values that can't be; all at once.
    """
    from omegaconf import OmegaConf
    from yaml import YAMLError

    path = Path(config)
    # a file elsewhere that isn't there may not pass for a preset of its name
    if not path.is_file() and (path.parent == Path("configs/bioemb") or str(path) == path.stem):
        path = presets_dir() / f"{path.stem}.yaml"
    if not path.is_file():
        there = [file.stem for file in presets_dir().glob("*.yaml")]
        raise StateshiftError(
            f"{config}: there is neither such a file nor such a preset{suggestion(Path(config).stem, there)}."
        )
    unequal = [override for override in overrides if "=" not in override]
    if unequal:
        raise StateshiftError(f"`{unequal[0]}` is no override: write key=value, as in data.table=features.pt.")
    try:
        given = OmegaConf.to_container(
            OmegaConf.merge(OmegaConf.create(yaml_text(path)), OmegaConf.from_dotlist(list(overrides)))
        )
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise StateshiftError(f"{config} with {' '.join(overrides) or 'no overrides'} is no config: {error}") from error
    return settings_of(given, str(config))


def settings_of(given: Mapping[str, Any], where: str) -> Settings:
    """`read_settings` of a config as dicts."""
    if not isinstance(given, Mapping):
        raise StateshiftError(f"{where} is no config: it holds no groups of keys.")
    settings, problems = Settings(), []
    for key, value in given.items():
        if key not in (known := {f.name for f in fields(Settings)}):
            problems.append(f"{key} is read by nothing{suggestion(key, known)}.")
        elif isinstance(getattr(settings, key), str | int):
            problems += _set(settings, key, value, key)
        elif not isinstance(value, Mapping):
            problems.append(f"{key} is a group of keys, not `{value}`.")
        else:
            for inner, setting in value.items():
                problems += _set(getattr(settings, key), inner, setting, f"{key}.{inner}")
    problems = problems or _values(settings)
    if problems:
        raise InputProblems(where, problems)
    return settings


def _set(group: Any, key: str, value: Any, full: str) -> list[str]:
    """Set one key after the type that its dataclass says; a sentence where that can't be."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [f.name for f in fields(group)]
    if key not in known:
        return [f"{full} is read by nothing{suggestion(key, known)}."]
    try:
        checked = OmegaConf.merge(OmegaConf.structured(type(group)), {key: value})
    except OmegaConfBaseException as error:
        return [f"{full}={value}: {first_line(error)}."]
    setattr(group, key, checked[key])
    return []


def _values(settings: Settings) -> list[str]:
    """What is wrong with values of the right type."""
    problems = []
    if settings.data.transductive == (settings.data.held_out is not None):
        problems.append(
            "say either which genes codes and training may not see, data.held_out=EXPERIMENT.toml or a list, or that all are "
            "fitted, data.transductive=true."
        )
    for full, choices in CHOICES.items():
        group, key = full.split(".")
        value = getattr(getattr(settings, group), key)
        if value not in choices:
            problems.append(f"{full}={value} is no choice{suggestion(value, choices)}.")
    whole = [(group, key) for group in ("training", "mlm") for key in ("epochs", "batch_size")]
    whole += [("training", "measure_every"), ("model", "bottleneck"), ("codes", "max_levels")]
    whole += [("encoder", "max_length"), ("encoder", "batch_size"), ("mlm", "max_length")]
    for group, key in whole:
        if (value := getattr(getattr(settings, group), key)) < 1:
            problems.append(f"{group}.{key}={value} has to be 1 or more.")
    for group in ("training", "mlm"):
        if not 0 < (rate := getattr(settings, group).learning_rate) < 1:
            problems.append(f"{group}.learning_rate={rate} has to lie between 0 and 1.")
    if not 0 < settings.mlm.probability < 1:
        problems.append(f"mlm.probability={settings.mlm.probability} has to lie between 0 and 1.")
    if settings.codes.k < 2:
        problems.append(f"codes.k={settings.codes.k} has to be 2 or more.")
    if settings.seed < 0 or settings.codes.seed < 0:
        problems.append("seeds have to be 0 or more.")
    return problems
