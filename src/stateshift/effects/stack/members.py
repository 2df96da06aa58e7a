"""What a stack is made of: models of effects without features, and with those of each source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.bilinear import fit_bilinear
from stateshift.effects.from_features.forest import fit_forest
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import fit_ridge
from stateshift.effects.main_effects import MainEffects
from stateshift.effects.mapped_transfer import fit_mapped_transfer
from stateshift.effects.simple import fit_additive
from stateshift.effects.transfer import fit_transfer
from stateshift.feature_table import FeatureTable


@dataclass(frozen=True)
class Kind:
    """A kind of member.

    Parameters
    ----------
    fit
        As in `EFFECT_MODELS`, with the rows' main effects.
    chosen
        What the model chose for itself on all rows, by attribute and parameter; it stands in the folds too.
    features
        Whether it reads features.
    parts
        Whether it stands once for each source of them too.
    """

    fit: Callable[..., Any]
    chosen: tuple[str, ...] = ()
    features: bool = True
    parts: bool = True


KINDS: dict[str, Kind] = {
    "additive": Kind(fit_additive, features=False),
    "mapped": Kind(fit_mapped_transfer, ("programs",), features=False),
    "transfer": Kind(fit_transfer, ("programs",), features=False),
    "ridge": Kind(fit_ridge, ("alpha",)),
    "knn": Kind(fit_knn, ("k",)),
    "bilinear": Kind(fit_bilinear, ("alpha", "strength", "k")),
    "forest": Kind(fit_forest, parts=False),
}
"""Forests are slow to fit: one reads all sources at once."""


@dataclass
class Member:
    """A kind with the features it reads, and what it chose.

    Parameters
    ----------
    kind
        Which one.
    features
        Its table; None where it reads none.
    chosen
        Parameters that are settled.
    """

    kind: Kind
    features: FeatureTable | None
    chosen: dict[str, Any]

    def fit(self, train: EffectTable, main: MainEffects, seed: int) -> Any:
        """Fit on these rows and their main effects, with what is settled."""
        return self.kind.fit(train, self.features, seed, **self.chosen, main=main)

    def settle(self, model: Any) -> None:
        """Keep what a model fitted on all rows chose."""
        self.chosen |= {name: getattr(model, name) for name in self.kind.chosen}

    def deviations(
        self, model: Any, main: np.ndarray, perturbations: Sequence[str], contexts: Sequence[str]
    ) -> np.ndarray:
        """Its predictions (Q, r) less the contexts' main effects; zero for a perturbation without features."""
        deviations = np.zeros_like(main)
        can = [i for i, p in enumerate(perturbations) if self.features is None or not self.features.missing([p])]
        if can:
            predicted = model.predict([perturbations[i] for i in can], [contexts[i] for i in can])
            deviations[can] = predicted - main[can]
        return deviations


def members_of(features: FeatureTable | None, controls: dict[str, np.ndarray]) -> dict[str, Member]:
    """Every member by name: those on features once for all and, as ``ridge:network``, once a part of a fusion.

    Parameters
    ----------
    features
        Of the perturbations' genes.
    controls
        Context → control mean (G,).
    """
    members = {"additive": Member(KINDS["additive"], None, {})}
    # before the transfer: where a context has no map the two are one, and of two that are one the first leaves
    members["mapped"] = Member(KINDS["mapped"], None, {"controls": controls})
    members["transfer"] = Member(KINDS["transfer"], None, {"controls": controls})
    if features is None:
        return members
    members |= {name: Member(kind, features, {}) for name, kind in KINDS.items() if kind.features}
    for part, table in parts_of(features).items():
        members |= {
            f"{name}:{part}": Member(kind, table, {}) for name, kind in KINDS.items() if kind.features and kind.parts
        }
    return members


def parts_of(features: FeatureTable) -> dict[str, FeatureTable]:
    """The parts of a fused table, by their source, or source and file where two have one; none where columns are mixed.

    Examples
    --------
    >>> parts = [{"source": "esm2", "columns": [0, 2]}, {"source": "network", "columns": [2, 3]}]
    >>> fused = FeatureTable(["A"], np.array([[1, 2, 3]]), {"source": "fusion", "parts": parts})
    >>> {name: part.vectors.tolist() for name, part in parts_of(fused).items()}
    {'esm2': [[1.0, 2.0]], 'network': [[3.0]]}
    """
    if features.provenance.get("source") != "fusion":
        return {}
    parts = [part for part in features.provenance.get("parts", []) if part.get("columns")]
    sources = [part.get("source", "table") for part in parts]
    names = [
        s if sources.count(s) == 1 else f"{s} {part.get('file', i)}" for i, (s, part) in enumerate(zip(sources, parts))
    ]
    return {
        name: FeatureTable(features.genes, features.vectors[:, slice(*part["columns"])], part.get("provenance", {}))
        for name, part in zip(names, parts)
    }
