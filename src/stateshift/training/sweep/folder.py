"""A sweep's folder: a run directory for each combination, and what became of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError
from stateshift.files import intact, locked, written_beside
from stateshift.run import RunDirectory

STATES = ("waiting", "unfinished", "finished", "failed")


@dataclass
class JobRecord:
    """What became of one run.

    Parameters
    ----------
    values
        Swept key → this run's value.
    state
        One of `STATES`; a run that trains, or was killed, is unfinished; one that never began waits.
    error
        Why it failed.
    seconds
        Wall time, that of earlier attempts included.
    started
        When the latest attempt began, seconds since 1970.
    """

    values: dict[str, Any]
    state: str = "unfinished"
    error: str = ""
    seconds: float = 0.0
    started: float = 0.0


@dataclass(frozen=True)
class SweepFolder:
    """Where a sweep keeps its parts.

    Parameters
    ----------
    path
        The folder: ``sweep.json``, ``jobs/NAME.json`` and ``jobs/NAME.log``, ``features/SOURCE.pt``, and the run
        directories by their names.
    """

    path: Path

    def run(self, name: str) -> RunDirectory:
        """The run directory of a name, whether it is there or not."""
        return RunDirectory(self.path / name)

    def log(self, name: str) -> Path:
        """What a run said."""
        return self.path / "jobs" / f"{name}.log"

    def table(self, source: str) -> Path:
        """The features that a source made for all runs."""
        return self.path / "features" / f"{source}.pt"

    def record(self, name: str) -> JobRecord | None:
        """What became of a run; None where it never began."""
        path = self.path / "jobs" / f"{name}.json"
        return _record(path) if path.is_file() else None

    def await_runs(self, runs: Mapping[str, dict[str, Any]]) -> None:
        """Record runs (name → swept key → value) that nothing is known of as waiting."""
        for name, values in runs.items():
            with self.alone(name) as alone:
                if alone and self.record(name) is None:
                    self.write_record(name, JobRecord(values, "waiting"))

    def write_record(self, name: str, record: JobRecord) -> None:
        """Write what became of a run."""
        _write(self.path / "jobs" / f"{name}.json", asdict(record))

    def records(self) -> dict[str, JobRecord]:
        """Run name → what became of it, for all that were to be run.

        Raises
        ------
        StateshiftError
            It is no sweep, or a record is damaged.
        """
        self.settings()
        return {path.stem: _record(path) for path in sorted((self.path / "jobs").glob("*.json"))}

    def settings(self) -> dict[str, Any]:
        """``sweep.json``: what all its runs have in common, and the swept keys.

        Raises
        ------
        StateshiftError
            The folder is no sweep.
        """
        path = self.path / "sweep.json"
        if not path.is_file():
            raise StateshiftError(
                f"{self.path} is no sweep's folder: `stateshift train EXPERIMENT --multirun key=a,b` makes one."
            )
        return _read(path)

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the folder, or find that it holds the same sweep.

        Raises
        ------
        StateshiftError
            Something else lies there, or a sweep of other settings.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            (self.path / "jobs").mkdir(parents=True, exist_ok=True)
            _write(self.path / "sweep.json", settings)
            return
        if not (self.path / "sweep.json").is_file():
            raise StateshiftError(f"{self.path} exists with other content: choose another --name.")
        held = self.settings()
        differing = [key for key, value in settings.items() if held.get(key) != value]
        if differing:
            told = "; ".join(f"{key} {_shown(held.get(key))} there, {_shown(settings[key])} now" for key in differing)
            raise StateshiftError(f"{self.path} holds another sweep ({told}): choose another --name.")

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether no other process trains this run; the system forgets the lock of one that dies."""
        with locked(self.path / "jobs" / f".{name}.lock", wait=False) as alone:
            yield alone


def _record(path: Path) -> JobRecord:
    held = _read(path)
    with intact(path, "Delete it, and start the sweep again."):
        return JobRecord(**held)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, content: dict[str, Any]) -> None:
    with written_beside(path, overwrite=True) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    with intact(path, "Delete it, and start the sweep again."):
        return dict(json.loads(path.read_text()))
