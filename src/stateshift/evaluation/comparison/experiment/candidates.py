"""What is compared: models, feature tables and seeds by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stateshift.cells import Experiment, perturbed_genes
from stateshift.effects.models import BASELINES, NEED_FEATURES, effect_model, effect_model_names
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.training.config import configs_dir
from stateshift.training.data import made_features, refuse_other_inputs, with_features

NETWORK = "transition:"
"""What tells a config of ``configs/model/`` from an effect model of the same name."""
NO_FEATURES = "–"


@dataclass(frozen=True)
class Candidate:
    """One thing that predicts.

    Parameters
    ----------
    model
        The name of an effect model, of a config of ``configs/model/``, or of a prediction made elsewhere.
    is_network
        Whether it is a config, which is trained.
    features
        The name of a table; `NO_FEATURES` where none is looked at.
    seed
        Draws weights and inner folds.
    """

    model: str
    is_network: bool
    features: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        features = "" if self.features == NO_FEATURES else f"{self.features},"
        return f"{self.model},{features}seed={self.seed}"


def candidates(models: Sequence[str], features: Sequence[str], seeds: Sequence[int]) -> list[Candidate]:
    """Every model with every table and seed, the baselines first; one that looks at no table stands once.

    Parameters
    ----------
    models
        Effect models, and configs of ``configs/model/``, plain or after ``transition:``.
    features
        Names of tables.
    seeds
        Of every model but the baselines, which no seed moves by more than a penalty of their inner folds: they get the first.

    Raises
    ------
    StateshiftError
        A model is unknown, or needs features where there are none.
    """
    chosen = {name: False for name in BASELINES if features or name not in NEED_FEATURES}
    for word in models:
        name, is_network = _model(word)
        chosen[name] = is_network
        if not features and (is_network or name in NEED_FEATURES):
            raise StateshiftError(f"`{name}` needs perturbation features: name a source or a table with --features.")
    found = []
    for name, is_network in chosen.items():
        uses = is_network or name in NEED_FEATURES or name not in BASELINES
        for label in features if uses and features else [NO_FEATURES]:
            found += [Candidate(name, is_network, label, s) for s in (seeds[:1] if name in BASELINES else seeds)]
    return found


def model_names() -> list[str]:
    """Effect models, and configs of the network."""
    return [*effect_model_names(), *_configs()]


def _configs() -> list[str]:
    return sorted(file.stem for file in (configs_dir() / "model").glob("*.yaml"))


def _model(word: str) -> tuple[str, bool]:
    name = word.removeprefix(NETWORK)
    if name == word and name in effect_model_names():
        effect_model(name)
        return name, False
    if name in _configs():
        return name, True
    raise StateshiftError(f"`{word}` is no model{suggestion(name, model_names())}.")


def feature_tables(experiment: Experiment, choices: Sequence[str] | None, folder: Path) -> dict[str, Path]:
    """Name → the file of each feature table; what a source makes is made once, in `folder`.

    Parameters
    ----------
    experiment
        As parsed.
    choices
        Sources, or files with a suffix; None for the experiment's own ``[features]``, which may name none.
    folder
        Where the tables of sources are kept.

    Raises
    ------
    StateshiftError
        There is no such source or file, or two tables would go by one name.
    """
    found: dict[str, Path] = {}
    for choice in [None] if choices is None else choices:
        wanted = with_features(experiment, choice).features
        if not wanted:
            continue
        if "table" in wanted:
            path = experiment.resolve(wanted["table"]).resolve()
            label = path.name.removesuffix(path.suffix)
        else:
            label = wanted.get("source", "esm2")
            path = (folder / f"{label}.pt").resolve()
        if label in found:
            raise StateshiftError(f"Two tables of features go by the name `{label}` here: rename one of the files.")
        if "table" not in wanted and path.is_file():
            refuse_other_inputs(with_features(experiment, choice), path)
        elif "table" not in wanted:
            genes = perturbed_genes(experiment.path)
            made_features(with_features(experiment, choice), genes, path, wanted.get("missing", "drop")).save(path)
        FeatureTable.load(path)
        found[label] = path
    return found
