"""Effect models by name, ours and those of other packages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.bilinear import fit_bilinear
from stateshift.effects.from_features.forest import fit_forest
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import fit_ridge
from stateshift.effects.simple import fit_additive, fit_context_mean, fit_control, fit_mean
from stateshift.effects.stack import fit_stack
from stateshift.effects.transfer import fit_transfer
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable


class EffectModel(Protocol):
    """What a fitted effect model can do."""

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G) float32, log1p scale, of R (perturbation, context) pairs."""
        ...

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """How each pair was reached: ``measured``, ``transfer``, ``features`` or ``fallback``."""
        ...


Fit = Callable[..., EffectModel]
"""How an effect model is fitted: training effects, features or None, and a seed."""

GROUP = "stateshift.effects"
EFFECT_MODELS: dict[str, Fit] = {
    "control": fit_control,
    "mean": fit_mean,
    "context_mean": fit_context_mean,
    "additive": fit_additive,
    "ridge": fit_ridge,
    "knn": fit_knn,
    "transfer": fit_transfer,
    "bilinear": fit_bilinear,
    "forest": fit_forest,
    "stack": fit_stack,
}
"""Name → how it is fitted on training effects, with features where it needs them, and a seed."""

BASELINES = ("control", "mean", "context_mean", "additive", "ridge", "knn", "transfer")
"""Those that are quick to fit, and stand beside every prediction."""

NEED_FEATURES = ("ridge", "knn", "bilinear", "forest")
"""Those that refuse a perturbation without a vector."""


@dataclass(frozen=True)
class OfAnotherPackage:
    """An effect model of an entry point, whose answers are held to what `EffectModel` promises.

    Parameters
    ----------
    name
        Of the entry point.
    model
        As that fitted it.
    n_genes
        G, of the training effects.
    """

    name: str
    model: Any
    n_genes: int

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G) float32.

        Raises
        ------
        StateshiftError
            They are of another shape, NaN or infinite.
        """
        effects = np.asarray(self.model.predict(list(perturbations), list(contexts)), dtype=np.float32)
        shape = (len(perturbations), self.n_genes)
        if effects.shape != shape or not np.isfinite(effects).all():
            held = "NaN or infinite values" if effects.shape == shape else f"an array {effects.shape}"
            raise StateshiftError(f"The effect model `{self.name}` predicts {held}: finite effects {shape} are needed.")
        return effects

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """The model's own routes; ``features`` where it tells none.

        Raises
        ------
        StateshiftError
            They are no name a pair.
        """
        told = getattr(self.model, "routes", None)
        routes = list(told(list(perturbations), list(contexts))) if told else ["features"] * len(perturbations)
        if len(routes) != len(perturbations):
            raise StateshiftError(
                f"The effect model `{self.name}` tells {len(routes)} routes for {len(perturbations)} pairs: one each is needed."
            )
        return routes


def effect_model(name: str) -> Fit:
    """How the effect model of a name is fitted: one of ours, or an entry point of the group ``stateshift.effects``.

    Such an entry point is a function ``fit(train, features, seed)`` of an `EffectTable`, a `FeatureTable` or None, and
    a number; what it returns has ``predict(perturbations, contexts)``, effects (R, G) on the scale of ``train``.

    Raises
    ------
    StateshiftError
        No model has the name, or the package that offers it can't be imported.
    """
    if name in EFFECT_MODELS:
        return EFFECT_MODELS[name]
    offered = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in offered:
        raise StateshiftError(f"`{name}` is no effect model{suggestion(name, [*EFFECT_MODELS, *offered])}.")
    try:
        fit = offered[name].load()
    except (ImportError, AttributeError) as error:
        raise StateshiftError(f"The effect model `{name}` ({offered[name].value}) can't be loaded: {error}") from error
    return lambda train, features, seed: OfAnotherPackage(name, fit(train, features, seed), len(train.genes))


def code_of(name: str) -> str:
    """The version of the package that offers an effect model, and the SHA-256 of its code; "" of ours, which go by stateshift's."""
    point = next((p for p in metadata.entry_points(group=GROUP) if p.name == name and name not in EFFECT_MODELS), None)
    spec = find_spec(point.module.partition(".")[0]) if point else None
    if spec is None:
        return ""
    places = [Path(place) for place in spec.submodule_search_locations or []]
    files = sorted(file for place in places for file in place.rglob("*.py")) or [Path(spec.origin)]
    code = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    return f"{point.dist.name} {point.dist.version}, SHA-256 {code[:12]}" if point.dist else f"SHA-256 {code[:12]}"


def effect_model_names() -> list[str]:
    """Names that `effect_model` knows, ours first."""
    return list(dict.fromkeys([*EFFECT_MODELS, *(point.name for point in metadata.entry_points(group=GROUP))]))


def fit_effect_models(
    train: EffectTable,
    features: FeatureTable | None,
    names: Sequence[str] = BASELINES,
    seed: int = 0,
) -> dict[str, EffectModel]:
    """Fit effect models on training effects.

    Parameters
    ----------
    train
        Effects of the training rows only.
    features
        Vectors of the training perturbations' genes; those of `NEED_FEATURES` need them.
    names
        Names that `effect_model` knows.
    seed
        Draws the inner folds.

    Returns
    -------
    dict
        Name → model, in the order of `names`.

    Raises
    ------
    StateshiftError
        A name is unknown, the table has no row, or features are needed and missing.

    Examples
    --------
    >>> effects = np.array([[1.0, 0.0], [3.0, 0.0]], dtype="float32")
    >>> train = EffectTable(["g", "h"], ["A", "B"], ["c", "c"], effects, np.array([5, 5]), {})
    >>> models = fit_effect_models(train, None, names=["mean", "additive"])
    >>> models["mean"].predict(["Z"], ["c"]), models["additive"].predict(["A"], ["c"])
    (array([[2., 0.]], dtype=float32), array([[1., 0.]], dtype=float32))
    """
    fits = {name: effect_model(name) for name in names}
    return {name: fit(train, features, seed) for name, fit in fits.items()}
