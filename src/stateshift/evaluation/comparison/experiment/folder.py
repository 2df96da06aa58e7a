"""The folder of a comparison: every finished stage is kept there, and taken from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stateshift.errors import StateshiftError
from stateshift.evaluation.comparison.experiment.candidates import Candidate
from stateshift.files import intact, locked, read_arrays, sha256, written_beside

SETTINGS = "comparison.json"
LOCKS = ".locks"
TEXTS = dict.fromkeys(("context", "perturbation", "route", "regime"), str)


@dataclass(frozen=True)
class ComparisonFolder:
    """Where a comparison keeps its parts.

    Parameters
    ----------
    path
        The folder: ``comparison.json``, ``folds/``, ``features/``, ``runs/``, ``predicted/``, ``scores/``, ``failed/``, and
        the table and plot of all that is there. Several processes may work in it, on machines that share it.
    """

    path: Path

    def begin(self, settings: Mapping[str, Any], tables: Mapping[str, Path], codes: Mapping[str, str]) -> None:
        """Make the folder, or find that it holds a comparison on the same data.

        Parameters
        ----------
        settings
            What all parts rest on.
        tables
            Name → file; other tables may have been compared there before.
        codes
            Name of a model of another package → what identifies its code; likewise.

        Raises
        ------
        StateshiftError
            Something else lies there, or a comparison of other settings, or of other tables or code of the same name.
        """
        with self.alone("settings"):
            self._begin(settings, tables, codes)

    def _begin(self, settings: Mapping[str, Any], tables: Mapping[str, Path], codes: Mapping[str, str]) -> None:
        file = self.path / SETTINGS
        held: dict[str, Any] = {"tables": {}}
        if file.is_file():
            held = _read(file)
            differing = [key for key, value in settings.items() if held.get(key) != value]
            if differing:
                told = "; ".join(
                    f"{key} {json.dumps(held.get(key))} there, {json.dumps(settings[key])} now" for key in differing
                )
                raise StateshiftError(f"{self.path} holds another comparison ({told}): choose another --output.")
        elif self.path.exists() and (
            not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {"features", LOCKS}
        ):
            raise StateshiftError(f"{self.path} exists with other content: choose another --output.")
        sums = {label: sha256(path) for label, path in tables.items()}
        changed = [label for label in sums if held["tables"].get(label, sums[label]) != sums[label]]
        if changed:
            raise StateshiftError(
                f"{self.path} holds a comparison with another table `{changed[0]}`: choose another --output, or another name "
                "for the table."
            )
        kept = held.get("codes", {})
        for model in (model for model, code in codes.items() if kept.get(model, code) != code):
            raise StateshiftError(
                f"{self.path} holds predictions of another `{model}` ({kept[model]} there, {codes[model]} now): choose another "
                "--output, or another name for the model."
            )
        held |= {**settings, "tables": held["tables"] | sums, "codes": kept | codes}
        with written_beside(file, overwrite=True) as part:
            part.write_text(json.dumps(held, indent=1) + "\n")

    def fold(self, name: str, what: str) -> Path:
        """A file of a fold: ``train.npz``, ``truth.npz``, ``experiment.toml``, ``files.json``."""
        return self.path / "folds" / name / what

    def run(self, fold: str, candidate: Candidate) -> Path:
        """The run directory of a network."""
        return self.path / "runs" / fold / candidate.name

    def prediction(self, fold: str, candidate: Candidate) -> Path:
        """The predicted effects of a candidate."""
        return self.path / "predicted" / fold / f"{candidate.name}.npz"

    def scores(self, fold: str, candidate: Candidate) -> Path:
        """The scores of a candidate."""
        return self.path / "scores" / fold / f"{candidate.name}.csv"

    def done(self, fold: str, candidate: Candidate) -> bool:
        """Whether a candidate was scored in a fold, and the prediction that the scores are of is there."""
        return self.scores(fold, candidate).is_file() and self.prediction(fold, candidate).is_file()

    def finished(self, folds: Iterable[str]) -> list[Candidate]:
        """Candidates that were scored in every fold, in an earlier command perhaps."""
        held = [Candidate(**words) for words in _read(self.path / SETTINGS).get("scored", [])]
        folds = list(folds)
        return [c for c in held if all(self.done(fold, c) for fold in folds)]

    def remember(self, candidate: Candidate) -> None:
        """Keep that a candidate was scored."""
        with self.alone("settings"):
            held = _read(self.path / SETTINGS)
            scored = held.get("scored", [])
            if asdict(candidate) in scored:
                return
            with written_beside(self.path / SETTINGS, overwrite=True) as part:
                part.write_text(json.dumps(held | {"scored": [*scored, asdict(candidate)]}, indent=1) + "\n")

    def alone(self, name: str, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold the lock of a part of the work; whether it could be had."""
        if self.path.exists() and not self.path.is_dir():
            raise StateshiftError(f"{self.path} exists and is no folder: choose another --output.")
        return locked(self.path / LOCKS / f"{name}.lock", wait)

    def failure(self, fold: str, candidate: Candidate) -> str:
        """Why a candidate could not be scored; "" where nothing is known of it."""
        path = self._failure(fold, candidate)
        return path.read_text().rstrip("\n") if path.is_file() else ""

    def write_failure(self, fold: str, candidate: Candidate, said: str) -> None:
        """Keep why a candidate could not be scored."""
        with written_beside(self._failure(fold, candidate), overwrite=True) as part:
            part.write_text(said + "\n")

    def forget_failure(self, fold: str, candidate: Candidate) -> None:
        """Before another attempt."""
        self._failure(fold, candidate).unlink(missing_ok=True)

    def _failure(self, fold: str, candidate: Candidate) -> Path:
        return self.path / "failed" / fold / f"{candidate.name}.txt"

    def read_prediction(self, fold: str, candidate: Candidate) -> tuple[np.ndarray, list[str]] | None:
        """Effects (R, G) and routes (R,); None where they were not made yet."""
        path = self.prediction(fold, candidate)
        if not path.is_file():
            return None
        stored = read_arrays(path, ("routes",), "Delete it, and compare again.")
        with intact(path, "Delete it, and compare again."):
            return stored["effects"], stored["routes"].tolist()

    def write_prediction(self, fold: str, candidate: Candidate, effects: np.ndarray, routes: list[str]) -> None:
        """Keep what a candidate predicts."""
        with written_beside(self.prediction(fold, candidate)) as part, open(part, "wb") as handle:
            np.savez_compressed(handle, effects=effects.astype(np.float32), routes=np.array(routes, dtype=str))

    def read_scores(self, fold: str, candidate: Candidate) -> pd.DataFrame | None:
        """One row a pair; None where they were not made yet."""
        path = self.scores(fold, candidate)
        if not path.is_file():
            return None
        with intact(path, "Delete it, and compare again."):
            return pd.read_csv(path, dtype=TEXTS, keep_default_na=False, na_values=[""])

    def write_scores(self, fold: str, candidate: Candidate, scores: pd.DataFrame) -> None:
        """Keep a candidate's scores, in the place of those of a prediction that was deleted."""
        with written_beside(self.scores(fold, candidate), overwrite=True) as part:
            scores.to_csv(part, index=False)


def _read(path: Path) -> dict[str, Any]:
    with intact(path, "Choose another --output."):
        return dict(json.loads(path.read_text()))
