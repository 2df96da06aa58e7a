"""Effect models that look at no features: control, mean, context mean, additive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.main_effects import MainEffects, fit_main_effects, refuse_nothing_to_fit
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.genes.doubles import as_spelt


@dataclass
class Control:
    """No change at all."""

    n_genes: int

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Zeros (R, G)."""
        return np.zeros((len(perturbations), self.n_genes), dtype=np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``fallback`` for every row."""
        return ["fallback"] * len(perturbations)


@dataclass
class Mean:
    """The mean of the training effects, by context where the context was seen.

    Parameters
    ----------
    overall
        Array (G,): mean over perturbations of their mean over contexts.
    contexts
        Context → mean of its training effects (G,); empty for the model that looks at no context.
    """

    overall: np.ndarray
    contexts: dict[str, np.ndarray]

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G), the same for every perturbation."""
        rows = [self.contexts.get(c, self.overall) for c in contexts]
        return np.array(rows, dtype=np.float32).reshape(len(perturbations), len(self.overall))

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``fallback`` for every row: nothing is known of the target."""
        return ["fallback"] * len(perturbations)


@dataclass
class Additive:
    """Context main effect plus target main effect (`fit_main_effects`).

    A double is the one that was trained on, in any order of its genes; else the sum of what its targets do alone, where
    all of them were trained on.
    """

    main: MainEffects

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G); a target or a context never seen adds nothing to the rest."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        parts = [self._parts(p) for p in as_spelt(perturbations, self.main.targets)]
        times = np.array([len(of) for of in parts])[:, None]
        targets = np.stack([self.main.of_targets(of).sum(axis=0) for of in parts])
        return (times * self.main.of_contexts(contexts) + targets).astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``transfer`` where the target was perturbed in training, or each gene of a double; else ``fallback``."""
        trained = set(self.main.targets)
        parts = (self._parts(p) for p in as_spelt(perturbations, trained))
        return ["transfer" if trained.issuperset(of) else "fallback" for of in parts]

    def _parts(self, perturbation: str) -> list[str]:
        """What was trained on of a perturbation: itself, or else all of its genes; itself where neither was."""
        genes = genes_of(perturbation)
        return (
            genes if perturbation not in self.main.targets and set(genes) <= set(self.main.targets) else [perturbation]
        )


def fit_control(train: EffectTable, features: FeatureTable | None = None, seed: int = 0) -> Control:
    """The model of no change."""
    return Control(len(train.genes))


def fit_mean(train: EffectTable, features: FeatureTable | None = None, seed: int = 0) -> Mean:
    """The mean over perturbations of their mean effect: each perturbation that measures a gene counts once."""
    return Mean(_mean_over_perturbations(train), {})


def fit_context_mean(train: EffectTable, features: FeatureTable | None = None, seed: int = 0) -> Mean:
    """The mean of each context's training effects; that of `fit_mean` for an unseen context, or genes unmeasured in it."""
    overall = _mean_over_perturbations(train)
    contexts = np.array(train.contexts, dtype=str)
    means = {str(c): _mean_of_measured(train.effects[contexts == c]) for c in np.unique(contexts)}
    return Mean(overall, {c: np.where(np.isnan(mean), overall, mean) for c, mean in means.items()})


def fit_additive(
    train: EffectTable, features: FeatureTable | None = None, seed: int = 0, main: MainEffects | None = None
) -> Additive:
    """Two-way main effects, by least squares over the training rows; `main`, where given, are these."""
    return Additive(main or fit_main_effects(train))


def _mean_over_perturbations(train: EffectTable) -> np.ndarray:
    refuse_nothing_to_fit(train)
    names = np.array(train.perturbations, dtype=str)
    return _mean_of_measured(np.stack([_mean_of_measured(train.effects[names == p]) for p in np.unique(names)]))


def _mean_of_measured(effects: np.ndarray) -> np.ndarray:
    """Mean of the rows that measure a gene, (G,); NaN where none does."""
    n = (~np.isnan(effects)).sum(axis=0)
    return np.divide(np.nansum(effects, axis=0), n, out=np.full(len(n), np.nan, dtype=effects.dtype), where=n > 0)
