"""One run of a sweep, in whatever process a launcher starts it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError
from stateshift.training.config import training_settings
from stateshift.training.resume import progress_of, resume
from stateshift.training.sweep.folder import JobRecord, SweepFolder
from stateshift.training.sweep.words import run_name, values_of
from stateshift.training.train import is_first_process, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepJob:
    """Trains the run of a combination, goes on with it, or finds it finished.

    Whatever goes wrong is recorded beside the run and stops no other; only a stop of the process itself goes on up.

    Parameters
    ----------
    folder
        The sweep's.
    experiment
        The TOML.
    swept
        The keys that name a run.
    tables
        Value of ``features`` → the table to train with, as a word of Hydra's; None stands for no such word.
    options
        Of `stateshift.training.train`.
    launched_by
        The process that launched the sweep; in any other, all that a run says goes to its log alone.
    """

    folder: SweepFolder
    experiment: Path
    swept: tuple[str, ...]
    tables: dict[str | None, str]
    options: dict[str, Any]
    launched_by: int = field(default_factory=os.getpid)

    def __call__(self, config: Any) -> None:
        """What a Hydra launcher calls; the words are those of the job at hand."""
        from hydra.core.hydra_config import HydraConfig

        words = list(HydraConfig.get().overrides.task)
        values = values_of(words, self.swept)
        name = run_name(values)
        if not is_first_process():
            self._train(name, words)
            return
        with self.folder.alone(name) as alone:
            if not alone:
                logger.warning("%s is being trained by another process and is left to it", name)
                return
            record = self.folder.record(name) or JobRecord(values)
            if record.state == "finished" and self.folder.run(name).path.exists():
                logger.info("%s is finished already", name)
                return
            with self._logged(name):
                self._attempt(name, words, record)

    def _attempt(self, name: str, words: list[str], record: JobRecord) -> None:
        last = self.folder.run(name).last
        if record.state == "unfinished" and last.is_file():  # killed: its time counts as far as its work was kept
            record.seconds += max(0.0, last.stat().st_mtime - record.started)
        record.state, record.error, record.started = "unfinished", "", time.time()
        self.folder.write_record(name, record)
        logger.info("%s begins", name)
        begun = time.monotonic()  # the clock may be set while it trains
        try:
            self._train(name, words)
            record.state = "finished"
        except Exception as error:
            record.state, record.error = "failed", _sentence(error)
            logger.warning("%s failed: %s", name, record.error)
            if not isinstance(error, StateshiftError):
                with open(self.folder.log(name), "a", encoding="utf-8") as log:
                    traceback.print_exc(file=log)
        record.seconds += time.monotonic() - begun
        self.folder.write_record(name, record)

    def _train(self, name: str, words: list[str]) -> None:
        run = self.folder.run(name)
        cache = self.options.get("cache")
        if run.last.is_file():
            if not progress_of(run, training_settings(run.config()))[1]:
                resume(run.path, [f"data.cache={cache}"] if cache else [])
            return
        if run.path.exists() and is_first_process():  # killed before its first checkpoint: nothing to go on with
            if run.best.is_file():
                raise StateshiftError(
                    f"{run.path} holds best.ckpt, and no last.ckpt to go on from: move it away to train it anew."
                )
            shutil.rmtree(run.path)
        chosen = values_of(words, ["features"])["features"] if _names(words, "features") else None
        if chosen in self.tables:
            words = [word for word in words if not _names([word], "features")] + [self.tables[chosen]]
        train(self.experiment, words, output_dir=self.folder.path, name=name, **self.options)

    @contextlib.contextmanager
    def _logged(self, name: str) -> Iterator[None]:
        """Keep what a run says in its log; where it isn't alone on a terminal, show nothing of it there."""
        package = logging.getLogger("stateshift")
        path = self.folder.log(name)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        level = package.level
        package.addHandler(handler)
        elsewhere = os.getpid() != self.launched_by
        with contextlib.ExitStack() as stack:
            stack.callback(handler.close)
            stack.callback(package.setLevel, level)
            stack.callback(package.removeHandler, handler)
            package.setLevel(logging.INFO)
            if elsewhere:
                stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(path, "a", encoding="utf-8"))))
            yield


def _names(words: list[str], key: str) -> bool:
    return any(word.partition("=")[0] == key for word in words)


def _sentence(error: Exception) -> str:
    if isinstance(error, StateshiftError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
