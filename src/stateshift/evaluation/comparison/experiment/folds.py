"""What is predicted: an experiment's own test split, or folds of its training split, in the manner of a regime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.cells import Cells, Experiment
from stateshift.cells.splits import split_groups
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import genes_of

FOLDS = {"T": "genes", "C": "contexts", "J": "genes in contexts"}
"""Regime → what its folds hold out."""


@dataclass
class Fold:
    """One way to part the cells.

    Parameters
    ----------
    name
        ``test``, or the regime and a number.
    split
        (n,) of ``train``, ``val`` and ``test``; what neither trains nor is scored is "" or ``control``.
    """

    name: str
    split: np.ndarray


def make_folds(cells: Cells, split: np.ndarray, regime: str | None, n_folds: int, seed: int = 0) -> list[Fold]:
    """The declared split as one fold, or folds of its training cells.

    ``T`` holds a part of the perturbed genes out in every context, with every double of theirs; ``C`` a part of the
    contexts; ``J`` the genes of one part in the contexts of another, and trains on neither. Validation cells of
    what is held out validate no more. The declared test split is neither trained on nor scored.

    Parameters
    ----------
    cells, split
        As `stateshift.cells.read_all` gives them.
    regime
        One of `FOLDS`; None for the declared split.
    n_folds
        Parts of the genes and of the contexts, at most as many as there are.
    seed
        Draws the parts.

    Raises
    ------
    StateshiftError
        There is no such regime, no test split, or nothing that could be held out.
    """
    if regime is None:
        if not (split == "test").any():
            raise StateshiftError(
                "The experiment declares no test split: declare one in [zeroshot] or [fewshot], or pass --folds T, C or J."
            )
        return [Fold("test", split)]
    if regime not in FOLDS:
        raise StateshiftError(f"--folds {regime} is no regime{suggestion(regime, FOLDS)}.")
    if n_folds < 2:
        raise StateshiftError(f"--n-folds {n_folds}: two or more are needed.")
    trains = split == "train"
    names, of_cell = np.unique(cells.obs["perturbation"].to_numpy(dtype=str), return_inverse=True)
    contexts = cells.obs["context"].to_numpy(dtype=str)
    trained = {gene for i in np.unique(of_cell[trains]) for gene in genes_of(names[i])}
    genes = _parts(trained, n_folds, seed) if regime in "TJ" else [None]
    places = _parts(set(contexts[trains]), n_folds, seed) if regime in "CJ" else [None]
    folds = []
    for held_genes in genes:
        for held_contexts in places:
            of_gene = np.array([_names_any(name, held_genes) for name in names])[of_cell]
            of_context = np.isin(contexts, held_contexts or [])
            held = of_gene & of_context if regime == "J" else of_gene | of_context
            parted = np.where(split == "test", "", split).astype("<U7")
            parted[np.isin(split, ("train", "val")) & (of_gene | of_context)] = ""
            parted[trains & held] = "test"
            if (parted == "test").any() and (parted == "train").any():
                folds.append(Fold(f"{regime}{len(folds)}", parted))
    if not folds:
        raise StateshiftError(
            f"--folds {regime}: the training split has too few {FOLDS[regime]} to hold any out and train on others."
        )
    return folds


def write_experiment(experiment: Experiment, cells: Cells, fold: Fold, path: Path) -> Path:
    """The experiment whose splits are a fold's, for a training: all that doesn't train or validate is its test split."""
    import toml

    raw = toml.load(experiment.path)
    raw["datasets"] = {name: experiment.patterns[name] for name in experiment.datasets}
    raw["training"] = dict.fromkeys(experiment.training, "train")
    raw["columns"] = dict(experiment.columns)
    if "genes" in raw["columns"]:
        raw["columns"]["genes"] = str(experiment.resolve(raw["columns"]["genes"]).resolve())
    raw.pop("features", None)
    raw["zeroshot"], raw["fewshot"] = {}, {}
    groups = split_groups(cells, fold.split)
    groups = groups[groups["perturbation"] != cells.control]
    for (dataset, context), rows in groups.groupby(["dataset", "context"], sort=True):
        place = f"{dataset}.{context}"
        kept = {"train": "train", "val": "val"}
        splits = {p: kept.get(s, "test") for p, s in zip(rows["perturbation"], rows["split"])}
        if len(set(splits.values())) == 1:
            raw["zeroshot"][place] = next(iter(splits.values()))
        else:
            raw["fewshot"][place] = {
                name: sorted(p for p, s in splits.items() if s == name) for name in ("val", "test")
            }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml.dumps(raw))
    return path


def _parts(names: set[str], n: int, seed: int) -> list[list[str]]:
    """The names dealt at random to at most n parts."""
    order = np.random.default_rng(seed).permutation(sorted(names))
    return [part.tolist() for part in np.array_split(order, min(n, len(order)))]


def _names_any(perturbation: str, genes: Sequence[str] | None) -> bool:
    return bool(genes) and not set(genes).isdisjoint(perturbation.split("+"))
