"""The same target measured in other contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from stateshift.cells.pseudobulk import EffectTable, spearman_brown
from stateshift.effects.alike import Alike, centred, shared_covariance
from stateshift.effects.from_features.bilinear import PROGRAMS, programs_of
from stateshift.effects.from_features.feature_space import first_least, gene_folds
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.feature_table import FeatureTable

HALF_NOISE = 50
"""Cells at which half of an effect's size is taken for noise, where the table says nothing but their number."""


@dataclass
class Transfer:
    """Context main effect plus what the target's rows in other contexts say beyond theirs.

    Deviations d(c) of a target from the main effects of the contexts are taken as drawn together, with covariance
    A(c, c') per gene, and measured with noise n(r). The best linear prediction in context c from rows r is

        Σ_r w(r) d(r),   w = (A_rr + diag n)⁻¹ A_rc

    (Henderson, Biometrics 31, 423, 1975): rows count by how reliable they are and how alike their context is, two
    that say the same share their weight, and little evidence is drawn to the main effect.

    Parameters
    ----------
    main
        Main effects of the training rows.
    rows
        Perturbation → its training rows.
    contexts
        Array (R,): code of each row's context.
    deviations
        Array (R, G): rows less the main effect of their context, reduced; NaN where unmeasured.
    alike
        `Alike` of the training contexts.
    noise
        Array (R,): mean over genes of the squared error of each row.
    programs
        How many programs of the targets' deviations the rows were reduced to, since noise has none; None: not reduced.
    scale
        What the prediction is multiplied by, at most 1: as other rows of the same target tell of each training row.
    """

    main: MainEffects
    rows: dict[str, np.ndarray]
    contexts: np.ndarray
    deviations: np.ndarray
    alike: Alike
    noise: np.ndarray
    programs: int | None
    scale: float

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G); the context main effect for a target never seen."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        weights = self._weights([self.rows.get(p, np.array([], dtype=int)) for p in perturbations], contexts)
        deviation = self.scale * weighted(weights, self.deviations)
        return (self.main.of_contexts(contexts) + deviation).astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``transfer`` where the target was perturbed in training, else ``fallback``."""
        return ["transfer" if p in self.rows else "fallback" for p in perturbations]

    def _weights(self, sources: Sequence[np.ndarray], contexts: Sequence[str]) -> csr_matrix:
        """Weights (Q, R) of each query's source rows."""
        if not len(sources):
            return csr_matrix((0, len(self.noise)))
        weights = []
        for rows, context in zip(sources, contexts, strict=True):
            among = self.alike.covariance[np.ix_(self.contexts[rows], self.contexts[rows])]
            to = self.alike.to(context)[self.contexts[rows]]
            weights.append(np.linalg.lstsq(among + np.diag(self.noise[rows]), to, rcond=None)[0])
        ends = np.cumsum([0, *(len(rows) for rows in sources)])
        return csr_matrix(
            (np.concatenate(weights), np.concatenate(sources), ends), shape=(len(sources), len(self.noise))
        )

    def measure_contexts(self) -> None:
        """Set how alike contexts are, by the deviations and their noise."""
        C = len(self.alike.names)
        self.alike.covariance = shared_covariance(self.deviations, self.noise, self.contexts, self.rows, C)

    def by_others(self) -> tuple[np.ndarray, csr_matrix]:
        """The training rows whose target has others, and the weights of those."""
        rows = {i: of[of != i] for of in self.rows.values() if len(of) > 1 for i in of}
        asked = np.array(sorted(rows), dtype=int)
        return asked, self._weights([rows[i] for i in asked], [self.alike.names[c] for c in self.contexts[asked]])

    def reduce(self, asked: np.ndarray, weights: csr_matrix, programs: int | None, seed: int) -> None:
        """Reduce rows to the programs with which others tell of each best, or leave them whole where that is best.

        Noise is spread over all directions, so that few programs keep little of it.
        """
        if programs is None:
            programs = self._choose_programs(asked, weights, seed)
        if programs is not None:
            _, kept, _ = programs_of(self._of_targets(), programs)
            self.programs, self.deviations = programs, self.deviations @ kept.T @ kept
            self.noise = self.noise * len(kept) / self.deviations.shape[1]
            self.measure_contexts()

    def _of_targets(self) -> np.ndarray:
        return np.stack([self.deviations[rows].mean(axis=0) for rows in self.rows.values()])

    def _choose_programs(self, asked: np.ndarray, weights: csr_matrix, seed: int) -> int | None:
        """By programs of other targets, since those of a row's own hold its noise."""
        names, of_targets = list(self.rows), self._of_targets()
        target = np.empty(len(self.noise), dtype=int)
        for t, rows in enumerate(self.rows.values()):
            target[rows] = t
        choices = [k for k in PROGRAMS if k < min(of_targets.shape)]
        folds = gene_folds(names, seed)
        if not folds or not choices:
            return None
        predicted, true = weights @ self.deviations, self.deviations[asked]
        size, agreement = np.zeros(len(choices)), np.zeros(len(choices))
        counted = np.zeros(len(asked), dtype=bool)
        for fit, held in folds:
            at = np.isin(target[asked], held) & ~counted
            counted |= at
            _, found, _ = programs_of(of_targets[fit], choices[-1])
            scores, truths = predicted[at] @ found.T, true[at] @ found.T
            size += [(scores[:, :k] ** 2).sum() for k in choices]
            agreement += [(scores[:, :k] * truths[:, :k]).sum() for k in choices]
        size = np.append((predicted[counted] ** 2).sum(), size)
        agreement = np.append((predicted[counted] * true[counted]).sum(), agreement)
        gained = np.divide(np.maximum(agreement, 0) ** 2, size, out=np.zeros_like(size), where=size > 0)
        return (None, *choices)[first_least((true[counted] ** 2).sum() - gained)]


def fit_transfer(
    train: EffectTable,
    features: FeatureTable | None = None,
    seed: int = 0,
    controls: dict[str, np.ndarray] | None = None,
    programs: int | None = None,
    main: MainEffects | None = None,
) -> Transfer:
    """How alike contexts are by shared targets, how reliable rows are, and what a target's other rows tell of each.

    The number of programs and the scale are those of least squared error over the training rows, each as predicted
    by the other rows of its target.

    Parameters
    ----------
    train
        Training rows.
    features
        Not looked at.
    seed
        Draws the folds by which the number of programs is chosen.
    controls
        Control means, in place of those of `train`.
    programs
        How many; None leaves it to the rows.
    main
        Main effects of these rows; None fits them.
    """
    main = main or fit_main_effects(train)
    names, code = np.unique(np.array(train.contexts, dtype=str), return_inverse=True)
    rows: dict[str, list[int]] = {}
    for i, perturbation in enumerate(train.perturbations):
        rows.setdefault(perturbation, []).append(i)
    targets = {name: np.array(of) for name, of in sorted(rows.items())}
    alike = Alike(list(names), np.eye(0), *centred(train.control_means if controls is None else controls, names))
    deviations = train.effects - main.of_contexts(train.contexts)
    model = Transfer(main, targets, code, deviations, alike, row_noise(train), None, 1.0)
    model.measure_contexts()
    asked, weights = model.by_others()
    if not len(asked):
        return model
    if not np.isnan(deviations).any():
        model.reduce(asked, weights, programs, seed)
        asked, weights = model.by_others()
    predicted, true = weighted(weights, model.deviations), deviations[asked]
    predicted, true = np.where(np.isnan(true), 0, predicted), np.nan_to_num(true)
    size = (predicted**2).sum()
    model.scale = float(np.clip((predicted * true).sum() / size, 0, 1)) if size > 0 else 1.0
    return model


def row_noise(train: EffectTable) -> np.ndarray:
    """Mean squared error of each row over its genes (R,), by what the table tells.

    Each by its standard errors, else by the reliability of halves (Spearman–Brown), else by the number of cells; zero
    where none is known.
    """
    size = np.nan_to_num(_mean(train.effects.astype(np.float64) ** 2))
    kept = np.ones(len(train))
    if train.n_cells is not None:
        kept = train.n_cells / (train.n_cells + HALF_NOISE)
    if train.reliability is not None:
        whole = np.where(train.reliability <= 0, 0, spearman_brown(train.reliability))
        kept = np.where(np.isnan(train.reliability), kept, whole)
    noise = size * (1 - kept)
    if train.standard_error is None:
        return noise
    told = ~np.isnan(train.standard_error).all(axis=1)
    return np.where(told, _mean(train.standard_error.astype(np.float64) ** 2), noise)


def weighted(weights: csr_matrix, deviations: np.ndarray) -> np.ndarray:
    """Sums (Q, G) of the rows' deviations by weight; rows that don't measure a gene leave theirs to those that do."""
    measured = ~np.isnan(deviations)
    if measured.all():
        return weights @ deviations
    summed, there = weights @ np.nan_to_num(deviations), weights @ measured.astype(np.float64)
    all_of_it = np.asarray(weights.sum(axis=1))
    return summed * np.divide(all_of_it, there, out=np.zeros_like(summed), where=np.abs(there) > 1e-12)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over genes (R,), of those that aren't NaN."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
