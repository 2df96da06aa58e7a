"""Effect models on tables as a user runs them: fit, keep, predict."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift import __version__
from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.read import read_calls, training_rows
from stateshift.effects.calls.stack import ACROSS, STACK_OF_PARTLY, STACK_OF_WHOLE, Stack, fit_stack
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.files import intact, new_folder, read_json, sha256, written_beside
from stateshift.genes import GeneNames, read_names

logger = logging.getLogger(__name__)

REGIMES = ("T", "C")


@dataclass
class TableModel:
    """A stack with what it was fitted on.

    Parameters
    ----------
    train
        Training rows.
    features, response_features
        Of perturbations and of response genes.
    about
        What `fit_effects` writes as ``model.json``.
    stack
        The fitted members.
    """

    train: EffectTable
    features: FeatureTable
    response_features: FeatureTable | None
    about: dict
    stack: Stack

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``transfer`` where the target trained in some context, ``features``, or ``fallback`` where it has none."""
        trained = set(self.train.perturbations)
        routes = []
        for p in perturbations:
            lacking = bool(self.features.missing([p])) or not self.features.matrix([p]).any()
            routes.append("transfer" if p in trained else "fallback" if lacking else "features")
        return routes


def fit_effects(
    calls: str | Path,
    features: str | Path,
    output: str | Path,
    *,
    response_features: str | Path | None = None,
    model: str = "stack",
    regime: str = "T",
    aliases: str | Path | None = None,
    in_context: str = "unnamed",
) -> TableModel:
    """Fit an effect model on a table of calls or values, and keep it in a folder.

    Parameters
    ----------
    calls
        One row a (perturbation, gene): ``label`` (0/1, fitted with a logistic link) or a value, perhaps ``context``
        and ``split``; rows of the split ``train`` are fitted on. Several contexts are fitted together.
    features
        A feature table of the perturbed genes.
    output
        The folder to make: training effects, features and ``model.json``, nothing pickled.
    response_features
        A feature table of the response genes, so that a gene learns from those alike.
    model
        A name in `MEMBERS`, several parted by commas, or ``stack``: `STACK_OF_WHOLE` where every row measures
        every gene, else `STACK_OF_PARTLY`.
    regime
        ``T``: tested targets are unseen, their rows leave training in every context, under any alias. ``C``: a tested
        target may be trained on in other contexts.
    aliases
        HGNC's table, to know a target under its other names; without it, spellings are compared.
    in_context
        The context of a table that names none.

    Returns
    -------
    TableModel
        As it was kept.

    Raises
    ------
    StateshiftError
        An input can't be used, the features come from the table itself, or the output exists.
    InputProblems
        All that is wrong with the table.
    """
    if regime not in REGIMES:
        raise StateshiftError(f"--regime {regime} is none{suggestion(regime, REGIMES)}.")
    output = Path(output)
    if output.exists():
        raise StateshiftError(f"{output} exists already: choose another folder.")
    read = read_calls(calls, in_context=in_context)
    tables = [FeatureTable.load(f) if f is not None else None for f in (features, response_features)]
    for path, table in zip((features, response_features), tables):
        if table is not None:
            refuse_leak(Path(path), table, Path(calls))
    names = GeneNames.from_hgnc(aliases) if aliases else GeneNames()
    train, left_out = training_rows(read, regime, names)
    if left_out:
        logger.info("%d targets that are tested leave training in other contexts: %s.", len(left_out), some(left_out))
    _tell_missing(train, *tables)
    members = _members(model, train)
    stack = fit_stack(train, tables[0], tables[1], members, read.labels, regime)
    about = {
        "stateshift": __version__,
        "members": list(members),
        "labels": read.labels,
        "regime": regime,
        "calls": Path(calls).name,
        "calls_sha256": sha256(calls) if Path(calls).is_file() else None,
        "left_out_of_training": left_out,
        "weighing": stack.weighing,
    }
    fitted = TableModel(train, tables[0], tables[1], about, stack)
    _keep(fitted, output)
    return fitted


def load_effects(folder: str | Path) -> TableModel:
    """Read a folder of `fit_effects`; members are fitted again on its training effects, weights are as kept.

    Raises
    ------
    StateshiftError
        It is no such folder, or damaged.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise StateshiftError(f"{folder} holds no effect model: stateshift effects fit makes one.")
    with intact(folder / "model.json", "Fit anew."):
        about = read_json(folder / "model.json", "Fit anew.")
        members, labels, regime, weighing = (about[k] for k in ("members", "labels", "regime", "weighing"))
        _refuse_other_weights(weighing, members)
    train = EffectTable.load(folder / "effects.npz")
    features = FeatureTable.load(folder / "features.pt")
    kept = folder / "response_features.pt"
    response_features = FeatureTable.load(kept) if kept.is_file() else None
    stack = fit_stack(train, features, response_features, members, labels, regime, weighing=weighing)
    return TableModel(train, features, response_features, about, stack)


def predict_effects(
    model: str | Path,
    perturb: str | Path,
    output: str | Path,
    *,
    context: str | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predict every response gene for perturbations, and write one row a (perturbation, context, gene).

    Parameters
    ----------
    model
        A folder of `fit_effects`.
    perturb
        A file of perturbations: one a line, or a csv's first column; ``A+B`` is a double.
    output
        The .csv to write: ``perturbation``, ``context``, ``gene``, ``score`` (a probability where labels were
        fitted), ``route``.
    context
        One training context. Default: all of them.
    overwrite
        Replace an existing output.

    Raises
    ------
    StateshiftError
        An input can't be used, or the context was not trained on.
    """
    output = Path(output)
    if output.suffix.lower() != ".csv":
        raise StateshiftError(f"{output}: scores are written as .csv.")
    if output.exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name or pass --overwrite.")
    _, asked = read_names(perturb)
    asked = list(dict.fromkeys("+".join(genes_of(p)) for p in asked))
    fitted = load_effects(model)
    contexts = sorted(set(fitted.train.contexts))
    if context is not None and context not in contexts:
        raise StateshiftError(f"The model was not trained in `{context}`{suggestion(context, contexts)}.")
    pairs = [(p, c) for c in ([context] if context else contexts) for p in asked]
    perturbations, of_context = [p for p, _ in pairs], [c for _, c in pairs]
    routes = fitted.routes(perturbations, of_context)
    without = sorted({p for p, r in zip(perturbations, routes) if r == "fallback"})
    if without:
        logger.warning(
            "%d of %d perturbations have no features and get the gene means (route `fallback`): %s.",
            *(len(without), len(asked), some(without)),
        )
    values = fitted.stack.predict(perturbations, of_context)
    genes = fitted.train.genes
    frame = pd.DataFrame(
        {
            "perturbation": np.repeat(perturbations, len(genes)),
            "context": np.repeat(of_context, len(genes)),
            "gene": np.tile(genes, len(pairs)),
            "score": values.ravel(),
            "route": np.repeat(routes, len(genes)),
        }
    )
    with written_beside(output, overwrite) as part:
        frame.to_csv(part, index=False, float_format="%.6g")
    return frame


def _refuse_other_weights(weighing: dict[str, dict], members: list[str]) -> None:
    """Every context has two numbers a member, and two of its own where labels are predicted."""
    for how in (weighing[""], *weighing.values()):
        numbers = np.array([how["weights"], how["scales"]], dtype=float)
        own = np.array([how["intercept"], how["of_mean"]])
        told = all(v is None for v in own) or np.isfinite(own.astype(float)).all()
        if numbers.shape != (2, len(members)) or not np.isfinite(numbers).all() or numbers[1].min() <= 0 or not told:
            raise ValueError(f"its weighing doesn't fit its {len(members)} members")


def _members(model: str, train: EffectTable) -> list[str]:
    """Names of the members; those that use other contexts only where there are any."""
    if model != "stack":
        return [name.strip() for name in model.split(",")]
    names = STACK_OF_WHOLE if train.measured.all() else STACK_OF_PARTLY
    several = len(set(train.contexts)) > 1
    return [name for name in names if several or name not in ACROSS]


def refuse_leak(path: Path, table: FeatureTable, calls: Path) -> None:
    """A StateshiftError where features were made of the effects that are to be predicted."""
    made_of = [table.provenance, *(part.get("provenance", {}) for part in table.provenance.get("parts", []))]
    if calls.is_file() and sha256(calls) in {p.get("lookup_sha256") for p in made_of if p.get("measured_effects")}:
        raise StateshiftError(
            f"{path} was made of {calls} (source `screen`): it holds the effects that are to be predicted. Make it of "
            "another screen."
        )


def _tell_missing(train: EffectTable, features: FeatureTable, response_features: FeatureTable | None) -> None:
    targets = sorted(set(train.perturbations))
    lacking = [p for p in targets if features.missing([p])]
    if len(lacking) == len(targets):
        near = suggestion(lacking[0], features.genes)
        raise StateshiftError(f"None of the {len(targets)} trained targets has features: {some(lacking)}{near}.")
    if lacking:
        logger.warning(
            "%d of %d trained targets have no features and teach nothing of others: %s.",
            *(len(lacking), len(targets), some(lacking)),
        )
    if response_features is not None:
        without = [g for g in train.genes if g not in response_features]
        if without:
            logger.info("%d of %d response genes have no features: %s.", len(without), len(train.genes), some(without))


def _keep(fitted: TableModel, output: Path) -> None:
    with written_beside(output) as part:
        new_folder(part)
        fitted.train.save(part / "effects.npz")
        fitted.features.save(part / "features.pt")
        if fitted.response_features is not None:
            fitted.response_features.save(part / "response_features.pt")
        (part / "model.json").write_text(json.dumps(fitted.about, indent=2) + "\n")
