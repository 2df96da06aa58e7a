"""Results on disk as they come: what a stopped run has done is kept, and a second run does the rest."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import intact, read_tensors, refuse_parquet_without_pyarrow, written_beside
from stateshift.structure.pipeline.jobs import Job
from stateshift.structure.pipeline.tables import FILE_TYPES, write_named

logger = logging.getLogger(__name__)

OUTPUT_FORMATS = ("separated", "grouped")


@dataclass(frozen=True)
class Output:
    """Where results go.

    Parameters
    ----------
    folder
        Holds everything that is written.
    name
        Of the grouped file, of the record ``NAME.json`` and of ``NAME.failures.csv``.
    format
        ``separated``: a file a result; ``grouped``: one file.
    file_type
        ``pt``, ``parquet`` or ``csv``.
    """

    folder: Path
    name: str
    format: str = "separated"
    file_type: str = "pt"

    def __post_init__(self) -> None:
        if self.format not in OUTPUT_FORMATS:
            raise StateshiftError(f"--output-format {self.format} is none{suggestion(self.format, OUTPUT_FORMATS)}.")
        if self.file_type not in FILE_TYPES:
            raise StateshiftError(f"--file-type {self.file_type} is none{suggestion(self.file_type, FILE_TYPES)}.")
        refuse_parquet_without_pyarrow(self.grouped_file)

    @property
    def grouped_file(self) -> Path:
        """The one file of ``grouped``."""
        return self.folder / f"{self.name}.{self.file_type}"

    def single_file(self, result: str) -> Path:
        """The file of a result of ``separated``."""
        return self.folder / f"{result}.{self.file_type}"


@dataclass(frozen=True)
class Done:
    """What became of a job: results, or why there are none."""

    job: Job
    results: Mapping[str, Tensor]
    failure: str = ""


@dataclass(frozen=True)
class Summary:
    """What a run left behind: number of results, job → why it failed, and where it all lies."""

    results: int
    failures: dict[str, str]
    place: Path


class Record:
    """The state of one output: settings, what is done, what failed.

    Parameters
    ----------
    output
        Where results go.
    settings
        What they depend on: models, checksums, limits. Another run into the same output needs the same.
    """

    def __init__(self, output: Output, settings: Mapping[str, Any]):
        self.output, self.settings = output, json.loads(json.dumps(settings, default=str))
        self.parts = output.folder / f".{output.name}.parts"
        self.file = output.folder / f"{output.name}.json"

    def open(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are still to do.

        Raises
        ------
        StateshiftError
            The output was made with other settings, or is finished for other jobs.
        """
        before = _json(self.file) or _json(self.parts / "settings.json")
        if before and before["settings"] != self.settings:
            other = [k for k in self.settings if before["settings"].get(k) != self.settings[k]]
            raise StateshiftError(
                f"{self.output.folder} holds results `{self.output.name}` of other settings ({some(other)}): choose "
                "another --output-path or --output-name."
            )
        done = self._done()
        to_do = [job for job in jobs if job.key not in done]
        if self.output.grouped_file.exists() and self.output.format == "grouped" and to_do:
            raise StateshiftError(
                f"{self.output.grouped_file} exists and lacks {some(job.key for job in to_do)}: choose another --output-name."
            )
        if done:
            logger.info("%d of %d are done already and are kept.", len(jobs) - len(to_do), len(jobs))
        if to_do:
            if not before and self.output.format == "separated" and self.output.folder.is_dir():
                self._refuse_strangers(to_do)
            self.parts.mkdir(parents=True, exist_ok=True)
            with written_beside(self.parts / "settings.json", overwrite=True) as part:
                part.write_text(json.dumps({"settings": self.settings}))
        return to_do

    def write(self, done: Sequence[Done]) -> None:
        """Keep some jobs' results; when this returns they survive a kill."""
        content = {name: value for one in done for name, value in one.results.items()}
        grouped = ""
        if self.output.format == "separated":
            for name, value in content.items():
                write_named({name: value}, self.output.single_file(name), overwrite=True)
        elif content:
            grouped = f"{uuid.uuid4().hex}.pt"
            with written_beside(self.parts / grouped) as part:
                torch.save(content, part)
        lines = [
            {"job": one.job.key, "results": list(one.results), "failure": one.failure, "file": grouped}
            | {"source": one.job.source, "part": one.job.part or ""}
            for one in done
        ]
        with (self.parts / f"{os.getpid()}.jsonl").open("a") as handle:
            handle.write("".join(json.dumps(line) + "\n" for line in lines))

    def finish(self) -> Summary:
        """Put the grouped file, the record and the table of failures in place."""
        lines = self._lines()
        done = self._done()
        failed = {line["job"]: line for line in lines if line["failure"] and line["job"] not in done}
        if self.output.format == "grouped" and not self.output.grouped_file.exists() and done:
            content: dict[str, Tensor] = {}
            for file in dict.fromkeys(line["file"] for line in lines if line["file"]):
                content.update(self._held(file))
            write_named(content, self.output.grouped_file)
        self.output.folder.mkdir(parents=True, exist_ok=True)
        with written_beside(self.file, overwrite=True) as part:
            part.write_text(json.dumps({"settings": self.settings, "results": done}, indent=1))
        self._write_failures(list(failed.values()))
        shutil.rmtree(self.parts, ignore_errors=True)
        failures = {job: line["failure"] for job, line in failed.items()}
        for job, why in list(failures.items())[:20]:
            logger.warning("%s: %s", job, why)
        place = self.output.grouped_file if self.output.format == "grouped" else self.output.folder
        return Summary(sum(map(len, done.values())), failures, place)

    def _held(self, file: str) -> dict[str, Tensor]:
        """The results in a part; a name that leads elsewhere was written by nobody here."""
        path = self.parts / Path(file).name
        with intact(path, f"Take {self.parts} away and begin anew."):
            return read_tensors(path)

    def _done(self) -> dict[str, list[str]]:
        """Job → names of its results, of this run and of earlier ones, whose files are still there."""
        grouped = self.output.format == "grouped"
        before = _json(self.file) if not grouped or self.output.grouped_file.exists() else None
        done = dict(before["results"]) if before else {}
        done |= {line["job"]: line["results"] for line in self._lines() if not line["failure"]}
        if grouped:
            return done
        return {job: names for job, names in done.items() if all(self.output.single_file(n).is_file() for n in names)}

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for file in sorted(self.parts.glob("*.jsonl")):
            for line in file.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except (ValueError, RecursionError):  # cut short by a kill: that job is done again
                    continue
        return lines

    def _refuse_strangers(self, jobs: Sequence[Job]) -> None:
        """Files that a first run would replace."""
        there = [f for job in jobs if (f := self.output.single_file(job.key)).exists()]
        if there:
            raise StateshiftError(f"{some(there)} exist and are not from a run of this: choose another --output-path.")

    def _write_failures(self, lines: Sequence[dict[str, Any]]) -> None:
        path = self.output.folder / f"{self.output.name}.failures.csv"
        if not lines:
            path.unlink(missing_ok=True)
            return
        with written_beside(path, overwrite=True) as part, part.open("w", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["job", "source", "part", "failure"])
            table.writerows([line[k] for k in ("job", "source", "part", "failure")] for line in lines)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with intact(path, "Take it away, or choose another output."):
        return dict(json.loads(path.read_text()))
