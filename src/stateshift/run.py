"""The run directory: what is in it, written and read safely, and movable."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError, some
from stateshift.files import intact, locked, read_json, refuse_unwritable, sha256, written_beside, yaml_text

RECORDED_PACKAGES = ("stateshift", "torch", "lightning", "cell-load", "anndata", "scanpy", "fair-esm", "numpy")


WAY_OUT = "Copy the run anew, or train again."


@dataclass(frozen=True)
class RunDirectory:
    """Where a run keeps its parts; every path is relative to the folder.

    Parameters
    ----------
    path
        The folder.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved Hydra config."""
        return self.path / "config.yaml"

    @property
    def experiment_file(self) -> Path:
        """The experiment TOML as trained, its paths relative to the run."""
        return self.path / "experiment.toml"

    @property
    def features_file(self) -> Path:
        """Feature vectors of the genes used."""
        return self.path / "features.pt"

    @property
    def effects_file(self) -> Path:
        """Pseudobulk effects of the training cells, which the baselines are fitted on."""
        return self.path / "effects.npz"

    @property
    def validation_file(self) -> Path:
        """Validation effects as measured and as the best network predicts them, which intervals are calibrated on."""
        return self.path / "validation.npz"

    @property
    def metrics_file(self) -> Path:
        """step, train_loss, val_loss, …; appended on resume."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Weights with the lowest validation loss, step 0 included."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The latest state, from which a run resumes."""
        return self.path / "checkpoints" / "last.ckpt"

    def checksums(self) -> dict[str, str]:
        """File → SHA-256 of what predicts: settings, vectors, the best weights, and the effects that models are fitted on."""
        files = (self.config_file, self.features_file, self.effects_file, self.best)
        return {path.name: sha256(path) for path in files if path.is_file()}

    def config(self) -> dict[str, Any]:
        """The resolved config as plain dicts."""
        import yaml

        with intact(self.config_file, WAY_OUT):
            config = yaml.safe_load(yaml_text(self.config_file))
            missing = {"model", "training", "data", "seed", "scale"} - set(config)
            if missing:
                raise ValueError(f"it lacks {some(sorted(missing))}")
            kinds = {"model": dict, "training": dict, "data": dict, "seed": int, "scale": str}
            strange = [key for key, kind in kinds.items() if not isinstance(config[key], kind)]
            if strange or not isinstance(config["model"].get("name", ""), str):
                raise ValueError(f"its {strange[0] if strange else 'model.name'} is of another kind")
        return config

    def genes(self) -> list[str]:
        """The G gene symbols, or dimensions of an embedding, in the order of the network's cells."""
        with intact(self.path / "genes.txt", WAY_OUT):
            return (self.path / "genes.txt").read_text().split("\n")[:-1]

    def every_gene(self) -> list[str]:
        """Every gene of the training files, where `genes` are a part of them or an embedding; else none."""
        return self._names("every_gene.txt")

    def batches(self) -> list[str]:
        """The batches that the model tells apart, in the order of its embedding; none where it doesn't."""
        return self._names("batches.txt")

    def _names(self, file: str) -> list[str]:
        path = self.path / file
        with intact(path, WAY_OUT):
            return path.read_text().split("\n")[:-1] if path.is_file() else []

    @property
    def imported_from(self) -> str | None:
        """The package that trained it, where that isn't ours; such a run has no effects of its training cells."""
        return self.config().get("imported_from")

    def splits(self) -> dict[str, dict[str, dict[str, int]]]:
        """Split → context → perturbation → perturbed cells."""
        path = self.path / "splits.json"
        splits = read_json(path, WAY_OUT)
        with intact(path, WAY_OUT):
            pairs = [pairs for contexts in splits.values() for pairs in contexts.values()]
            if not all(type(cells) is int for found in pairs for cells in found.values()):
                raise ValueError("it counts cells in other than whole numbers")
        return splits

    def write_text(self, name: str, text: str) -> None:
        """Write one small file of the run, whole."""
        with written_beside(self.path / name, overwrite=True) as part:
            part.write_text(text)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the run to this process; the system forgets one that dies.

        Raises
        ------
        StateshiftError
            Another process trains it.
        """
        lock = self.path / "lock"
        with locked(lock, wait=False) as alone:
            if not alone:
                raise StateshiftError(
                    f"{self.path} is being trained by another process: wait until that one has ended."
                )
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def clear_half_written(self) -> None:
        """Take away what a killed process had begun to write (`stateshift.files.written_beside`)."""
        for part in (*self.path.glob(".*.part*"), *self.path.glob("checkpoints/.*.part*")):
            part.unlink(missing_ok=True)

    def write_splits(self, splits: dict[str, dict[str, dict[str, int]]]) -> None:
        """Write ``splits.json``."""
        self.write_text("splits.json", json.dumps(splits, indent=1) + "\n")

    def write_genes(self, genes: Sequence[str]) -> None:
        """Write ``genes.txt``, one symbol a line."""
        self.write_text("genes.txt", "".join(f"{gene}\n" for gene in genes))

    def write_every_gene(self, genes: Sequence[str]) -> None:
        """Write ``every_gene.txt``, one symbol a line."""
        self.write_text("every_gene.txt", "".join(f"{gene}\n" for gene in genes))

    def write_batches(self, batches: Sequence[str]) -> None:
        """Write ``batches.txt``, one name a line."""
        self.write_text("batches.txt", "".join(f"{batch}\n" for batch in batches))

    def write_versions(self) -> None:
        """Write ``versions.json``: Python and the packages that shape a result."""
        versions = {"python": platform.python_version()}
        for package in RECORDED_PACKAGES:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "not installed"
        self.write_text("versions.json", json.dumps(versions, indent=1) + "\n")


def refuse_taken(path: str | Path) -> None:
    """Raise a StateshiftError where something lies at `path` already: a run is never overwritten."""
    path = Path(path)
    refuse_unwritable(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "another run" if (path / "config.yaml").exists() else "other content"
        raise StateshiftError(
            f"{path} exists with {what}: choose another --name, or go on with it by `stateshift train --resume {path}`."
        )


def new_run(path: str | Path) -> RunDirectory:
    """Make an empty run directory; `refuse_taken` where it can't be one."""
    path = Path(path)
    refuse_taken(path)
    try:
        (path / "checkpoints").mkdir(parents=True)
    except OSError as error:
        raise StateshiftError(f"{path} can't be made: {error.strerror or error}.") from error
    return RunDirectory(path)


def open_run(path: str | Path) -> RunDirectory:
    """An existing run directory.

    Raises
    ------
    StateshiftError
        It is no run, or parts are missing; they are named.
    """
    path = Path(path)
    if not path.is_dir():
        raise StateshiftError(f"{path}: there is no such run directory.")
    run = RunDirectory(path)
    needed = ("config.yaml", "experiment.toml", "genes.txt", "features.pt", "effects.npz", "splits.json")
    if (path / "config.yaml").is_file() and run.imported_from:
        needed = tuple(name for name in needed if name != "effects.npz")
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise StateshiftError(
            f"{path} is not a whole run directory: it lacks {some(missing)}. Where its training was killed as it began, nothing "
            "was learnt yet: remove it and train anew."
        )
    if "effects.npz" in needed:
        _refuse_foreign_genes(run)
    return run


def _refuse_foreign_genes(run: RunDirectory) -> None:
    """A name that was changed or lost in ``genes.txt`` would give a gene's values to another."""
    import numpy as np

    with intact(run.effects_file, WAY_OUT), np.load(run.effects_file, allow_pickle=False) as stored:
        measured = stored["genes"].tolist()
    names = "every_gene.txt" if (every_gene := run.every_gene()) else "genes.txt"
    if (every_gene or run.genes()) != measured:
        raise StateshiftError(f"{run.path / names} and effects.npz name different genes. {WAY_OUT}")
