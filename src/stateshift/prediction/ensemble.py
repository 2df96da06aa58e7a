"""Several runs of one training, as one prediction: their cells averaged, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stateshift.errors import InputProblems
from stateshift.feature_table import FeatureTable
from stateshift.prediction.network import Predicted
from stateshift.run import RunDirectory


def refuse_other_runs(members: Sequence[RunDirectory]) -> None:
    """Members have to predict the same genes, on the same scale, from the same features, of the same training pairs.

    Raises
    ------
    InputProblems
        One sentence for each way in which a run differs from the first.
    """
    first, problems = members[0], []
    features, trained = FeatureTable.load(first.features_file), _trained_pairs(first)
    for i, other in enumerate(members[1:], start=1):
        name = other.path.name
        if other.path.resolve() in {run.path.resolve() for run in members[:i]}:
            problems.append(f"{name} is named twice.")
        if other.genes() != first.genes() or other.every_gene() != first.every_gene():
            problems.append(f"{name} predicts other genes, or the same in another order: train both on the same files.")
        if (scale := other.config()["scale"]) != first.config()["scale"]:
            problems.append(f"{name} is on scale {scale} and {first.path.name} on {first.config()['scale']}.")
        theirs = FeatureTable.load(other.features_file)
        same = theirs.genes == features.genes and theirs.width == features.width
        if not (same and np.allclose(theirs.vectors, features.vectors, rtol=1e-3, atol=1e-4)):
            problems.append(f"{name} reads other perturbation features: give both the same table (--pert-features).")
        if _trained_pairs(other) != trained:
            problems.append(f"{name} was trained on other perturbations: give both the same experiment file.")
    if problems:
        raise InputProblems(f"These runs are no ensemble with {first.path.name}", problems)


class Averaged:
    """The mean of several runs' predicted cells, each from the same control cells.

    Parameters
    ----------
    members
        What each run predicts, request by request; they are gone through side by side.
    """

    def __init__(self, members: Sequence[Iterator[Predicted]]):
        self._members = members
        self._spread: list[np.ndarray] = []

    def __iter__(self) -> Iterator[Predicted]:
        for made in zip(*self._members, strict=True):
            self._spread.append(np.std([one.genes.mean(axis=0) for one in made], axis=0, ddof=1).astype(np.float32))
            embedding = None if made[0].embedding is None else np.mean([one.embedding for one in made], axis=0)
            yield Predicted(np.mean([one.genes for one in made], axis=0), embedding)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over the runs of each mean predicted effect, (R, G) of the requests gone through."""
        return np.stack(self._spread)


def _trained_pairs(run: RunDirectory) -> set[tuple[str, str]]:
    return {(context, p) for context, of in run.splits().get("train", {}).items() for p in of}
