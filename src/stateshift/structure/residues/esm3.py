"""ESM3 residue rows from a worker in another interpreter (``--esm3-python``)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stateshift.errors import StateshiftError
from stateshift.structure.residues.models import Entry

MODEL = "esm3-open"
WORKER = Path(__file__).with_name("esm3_worker.py")
ATOMS = 37


class Esm3Residues:
    """Rows of ESM3-open's last block before its final norm, BOS and EOS kept: the input of the published aggregator.

    Parameters
    ----------
    python
        An interpreter whose environment holds ESM3's package.

    Raises
    ------
    StateshiftError
        There is no such interpreter, or the worker can't load the model; its last words are told.
    """

    geometry = False
    width = 1536

    def __init__(self, python: str | Path):
        self.python = str(python)
        self._folder = tempfile.TemporaryDirectory(prefix="stateshift-esm3-")
        self._log = open(Path(self._folder.name) / "log", "w+")  # noqa: SIM115, lives as long as the worker
        try:
            self._process = subprocess.Popen(
                [self.python, str(WORKER), MODEL],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        except OSError as error:
            raise StateshiftError(f"--esm3-python {python} can't be started: {error.strerror or error}.") from error
        self.name = self._answer()["ready"]

    @property
    def identity(self) -> dict[str, Any]:
        """The model's name; no checksum, since the weights lie with the other environment."""
        return {"model": self.name, "model_sha256": "", "geometry": False}

    def rows(self, entries: Sequence[Entry]) -> list[Tensor]:
        """Residue rows (L_b + 2, 1536) of each entry."""
        return [self._one(entry) for entry in entries]

    def close(self) -> None:
        """End the worker."""
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait(timeout=60)
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Esm3Residues:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, entry: Entry) -> Tensor:
        if entry.backbone is None:
            raise StateshiftError(f"`{entry.name}` has a sequence and no structure, which ESM3 is given here.")
        given, made = (Path(self._folder.name) / name for name in ("coordinates.npy", "rows.npy"))
        # ESM3's structure tokens and frames look at N, CA and C alone, the first three of its 37 atoms
        atoms = np.full((len(entry.sequence), ATOMS, 3), np.nan, dtype=np.float32)
        atoms[:, :3] = entry.backbone
        np.save(given, atoms, allow_pickle=False)
        request = {"sequence": entry.sequence, "coordinates": str(given), "output": str(made)}
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError as error:
            raise StateshiftError(self._last_words()) from error
        answer = self._answer()
        if "error" in answer:
            raise StateshiftError(f"ESM3 could not embed `{entry.name}`: {answer['error']}")
        rows = torch.from_numpy(np.load(made, allow_pickle=False))
        expected = (len(entry.sequence) + 2, self.width)
        if tuple(rows.shape) != expected or list(rows.shape) != answer.get("rows"):
            raise StateshiftError(f"ESM3 gave `{entry.name}` rows of shape {tuple(rows.shape)}, not {expected}.")
        return rows

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise StateshiftError(self._last_words()) from error

    def _last_words(self) -> str:
        """Why the worker is gone, in its own words."""
        self._log.seek(0)
        said = [line for line in self._log.read().splitlines() if line.strip()]
        reason = said[-1].strip() if said else "it said nothing"
        return f"The ESM3 worker of {self.python} ended: {reason}. Its environment needs the package `esm` of ESM3."
