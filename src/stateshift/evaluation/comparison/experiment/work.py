"""The third stage of a comparison: each candidate predicted and scored in each fold, here or by Hydra's launchers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stateshift.cells import read_experiment
from stateshift.effects.models import BASELINES
from stateshift.errors import StateshiftError
from stateshift.evaluation.comparison.experiment.candidates import Candidate
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder
from stateshift.evaluation.comparison.experiment.predicting import Predictor
from stateshift.evaluation.comparison.experiment.stages import FoldEffects, load_fold
from stateshift.evaluation.pairing import Pairing
from stateshift.evaluation.scores import score_models
from stateshift.training.sweep.launch import launch, refuse_absent_launcher

logger = logging.getLogger(__name__)


def work_here(
    folder: ComparisonFolder, parts: Sequence[FoldEffects], chosen: Sequence[Candidate], by: Predictor
) -> None:
    """Score what is not scored yet, one after the other; what another process is at comes last, and is waited for."""
    left = []
    for candidate in chosen:
        for part in parts:
            if not attempt(folder, part, candidate, by, wait=False):
                left.append((part, candidate))
            elif folder.failure(part.name, candidate):
                break
    for part, candidate in left:
        logger.info("%s in %s is another process's: waiting for it", candidate.name, part.name)
        attempt(folder, part, candidate, by, wait=True)


def work_by_launcher(
    folder: ComparisonFolder,
    experiment: Path,
    parts: Sequence[FoldEffects],
    chosen: Sequence[Candidate],
    by: Predictor,
    words: Sequence[str],
) -> None:
    """Score what is not scored yet through a launcher of Hydra's: a job a candidate and fold, the baselines of a fold one.

    What another process is at is left to it.

    Parameters
    ----------
    folder, experiment
        Seen under the same paths by all machines.
    words
        For Hydra itself: ``hydra/launcher=joblib`` and its settings.
    """
    jobs: dict[tuple[str, str], list[Candidate]] = {}
    for part in parts:
        for candidate in chosen:
            if not folder.done(part.name, candidate):
                name = "baselines" if candidate.model in BASELINES else candidate.name
                jobs.setdefault((part.name, name), []).append(candidate)
    if not jobs:
        return
    work = tuple((part, tuple(candidates)) for (part, _), candidates in jobs.items())
    shared = ComparisonFolder(folder.path.resolve())
    job = ComparisonJob(shared, experiment.resolve(), replace(by, folder=shared), work)
    launch(job, [*words, f"+part={','.join(map(str, range(len(work))))}"], shared.path, shared.path / "failed")


@dataclass(frozen=True)
class ComparisonJob:
    """What a launcher calls: candidates scored in a fold.

    Parameters
    ----------
    folder, experiment
        The comparison's.
    by
        Predicts.
    work
        Fold and candidates of each job.
    """

    folder: ComparisonFolder
    experiment: Path
    by: Predictor
    work: tuple[tuple[str, tuple[Candidate, ...]], ...]

    def __call__(self, config: Any) -> None:
        """Do the job that the config numbers."""
        fold, candidates = self.work[int(config.part)]
        part = load_fold(self.folder, read_experiment(self.experiment), fold)
        for candidate in candidates:
            attempt(self.folder, part, candidate, self.by, wait=False)


def attempt(folder: ComparisonFolder, part: FoldEffects, candidate: Candidate, by: Predictor, wait: bool) -> bool:
    """Score a candidate in a fold unless it is scored; False where another process is at it.

    What goes wrong is kept beside the scores, with its traceback in the log, and stops no other candidate: a network may
    want more memory than there is.
    """
    with folder.alone(f"{part.name},{candidate.name}", wait) as alone:
        if not alone:
            return False
        if not folder.done(part.name, candidate):
            folder.forget_failure(part.name, candidate)
            try:
                _score(folder, part, candidate, by)
            except StateshiftError as error:
                folder.write_failure(part.name, candidate, str(error))
                return True
            except Exception as error:
                logger.exception("%s in %s", candidate.name, part.name)
                said = (str(error).splitlines() or [""])[0][:300]
                folder.write_failure(part.name, candidate, f"{type(error).__name__}: {said}")
                return True
        folder.remember(candidate)
    return True


def _score(folder: ComparisonFolder, part: FoldEffects, candidate: Candidate, by: Predictor) -> None:
    """Scores of the candidate's prediction, as kept or made."""
    logger.info("%s, %s", part.name, candidate.name)
    predicted = folder.read_prediction(part.name, candidate)
    if predicted is None:
        predicted = by(candidate, part)
        folder.write_prediction(part.name, candidate, *predicted)
    effects, routes = predicted
    truth = part.truth
    rows = pd.DataFrame({"context": truth.contexts, "perturbation": truth.perturbations, "route": routes})
    rows = rows.assign(regime=part.regimes, n_true=truth.n_cells)
    folder.write_scores(
        part.name, candidate, score_models(Pairing(truth.genes, rows, truth.effects, {candidate.model: effects}))
    )


def collect(
    folder: ComparisonFolder, parts: Sequence[FoldEffects], chosen: Sequence[Candidate]
) -> tuple[pd.DataFrame | None, list[str]]:
    """Scores of all candidates that were scored in every fold, and a sentence on each of the others."""
    found, notes = [], []
    for candidate in chosen:
        of_candidate = []
        for part in parts:
            scores = folder.read_scores(part.name, candidate)
            if scores is None:
                failure = folder.failure(part.name, candidate)
                told = f"failed in {part.name} and is left out: {failure}"
                notes.append(f"{candidate.name} {told if failure else _UNFINISHED.format(part.name)}")
                break
            words = {"fold": part.name, "model": candidate.model, "features": candidate.features}
            of_candidate.append(scores.assign(**words, seed=candidate.seed))
        else:
            found += of_candidate
    return (pd.concat(found, ignore_index=True) if found else None), notes


def launcher_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of networks, and words for Hydra's launcher.

    Raises
    ------
    StateshiftError
        The launcher is not installed.

    Examples
    --------
    >>> launcher_words(["training.max_steps=5", "hydra/launcher=basic"])
    (['training.max_steps=5'], ['hydra/launcher=basic'])
    """
    hydra = [word for word in words if word.startswith(("hydra/", "hydra."))]
    refuse_absent_launcher(hydra)
    return [word for word in words if word not in hydra], hydra


_UNFINISHED = "is not finished in {}: give the same command again when it is, or to do it."
