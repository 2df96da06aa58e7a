"""Structures to residue tensors, chain vectors and assembly vectors: what the commands call."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stateshift.errors import StateshiftError
from stateshift.proteins import load_esm2
from stateshift.structure.aggregator import TrainedAggregator, load_aggregator
from stateshift.structure.pipeline.jobs import Job, read_jobs, whole_structures
from stateshift.structure.pipeline.loading import LEVELS, Reading
from stateshift.structure.pipeline.record import Output, Record, Summary
from stateshift.structure.pipeline.run import Machine, predict
from stateshift.structure.residues import Esm2Residues, ResidueModel, residue_files
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

DEMO_AGGREGATOR = Path(__file__).resolve().parents[2] / "data" / "demo_aggregator.pt"


@dataclass(frozen=True)
class Models:
    """What embeds.

    Parameters
    ----------
    checkpoint
        ESM2, as `load_esm2` takes it; None: the demo model.
    geometry
        Whether residue rows carry local geometry; where an aggregator is used, it decides.
    esm3_python
        Instead of ESM2: the interpreter of an environment with ESM3.
    aggregator
        Its file; None: the demo aggregator.
    """

    checkpoint: str | None = None
    geometry: bool = False
    esm3_python: str | None = None
    aggregator: str | Path | None = None


@dataclass(frozen=True)
class Stage:
    """One of the three steps of `embed_complete`: its output and its batch size and workers."""

    output: Output
    batch_size: int = 8
    num_workers: int = 0


@left_alone()
def embed(
    level: str,
    source: str | Path | Sequence[Job] | None,
    output: Output,
    models: Models | None = None,
    reading: Reading | None = None,
    machine: Machine | None = None,
) -> Summary | None:
    """Embed everything that a source names.

    Parameters
    ----------
    level
        ``residues`` (rows of each chain), ``chains`` or ``assemblies`` (a vector each).
    source
        As `read_jobs` takes it, or jobs; with ``reading.residue_location`` and chains it may be None: every tensor there.
    output
        Where results go; a run into an output that was begun with the same settings does the rest.
    models, reading, machine
        What embeds, how structures are read, where it runs.

    Returns
    -------
    Summary or None
        What was written and what failed; None on the processes beside the first.

    Raises
    ------
    StateshiftError
        The source, a model or the output can't be used. What is wrong with one structure is a line of
        ``NAME.failures.csv``.
    """
    models, machine = models or Models(), machine or Machine()
    reading = replace(reading or Reading(), level=level)
    if level not in LEVELS:
        raise StateshiftError(f"`{level}` is no level: there are {', '.join(LEVELS)}.")
    stored = stored_identity(Path(reading.residue_location)) if reading.residue_location is not None else None
    jobs = _jobs(source, reading)
    trained = None if level == "residues" else load_aggregator(models.aggregator or DEMO_AGGREGATOR)
    if trained is not None and stored is None:
        models = replace(models, geometry=trained.geometry)
    with ExitStack() as stack:
        residues = _residue_model(models, stack) if stored is None else None
        identity = residues.identity if residues is not None else stored
        if trained is not None:
            trained.refuse_other_rows(identity)
        reading = replace(reading, geometry=bool(models.geometry) and residues is not None)
        record = Record(output, _settings(reading, identity, trained))
        to_do = record.open(jobs)
        first = predict(to_do, reading, residues, trained and trained.model, record, machine) if to_do else True
    summary = record.finish() if first else None
    # the next step of a complete run reads what the first process has just put in place
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return summary


@left_alone()
def embed_complete(
    source: str | Path,
    residues: Stage,
    chains: Stage,
    assemblies: Stage,
    models: Models | None = None,
    reading: Reading | None = None,
    machine: Machine | None = None,
) -> dict[str, Summary]:
    """Residue tensors, then chain and assembly vectors from them, each with an output of its own.

    Parameters
    ----------
    source
        As in `embed`. Of a table the chains are embedded that it names; residue tensors and assemblies are all
        those of its structures, under the structures' names.
    residues, chains, assemblies
        Outputs, batch sizes and workers; residue tensors are separated ``.pt`` files.
    models, reading, machine
        As in `embed`; chains have label names, by which assemblies find them.
    """
    models, reading, machine = models or Models(), reading or Reading(), machine or Machine()
    if (residues.output.format, residues.output.file_type) != ("separated", "pt"):
        raise StateshiftError(
            "The residue tensors of a complete run are separated .pt files, which its later steps read."
        )
    folders = [stage.output.folder.resolve() for stage in (residues, chains, assemblies)]
    if folders[0] in folders[1:]:
        raise StateshiftError("Residue tensors need a folder of their own: vectors there would be taken for tensors.")
    if reading.chain_names != "label":
        raise StateshiftError("A complete run names chains by label, as assemblies do.")
    geometry = models.esm3_python is None and load_aggregator(models.aggregator or DEMO_AGGREGATOR).geometry
    steps = {"residues": residues, "chains": chains, "assemblies": assemblies}
    jobs = read_jobs(source)
    structures = whole_structures(jobs)
    if all(job.sequence is not None for job in jobs):
        logger.info("%s holds sequences: they have no assemblies.", source)
        del steps["assemblies"]
    summaries = {}
    for level, stage in steps.items():
        ran = replace(machine, batch_size=stage.batch_size, num_workers=stage.num_workers)
        stored = None if level == "residues" else str(residues.output.folder)
        # the limits were kept when residues were made; rows may hold BOS and EOS beside them
        read = reading if level != "chains" else replace(reading, min_residues=0, max_residues=None)
        read = replace(read, residue_location=stored)
        asked = jobs if level == "chains" else structures
        done = embed(level, asked, stage.output, replace(models, geometry=geometry), read, ran)
        if done is not None:
            summaries[level] = done
    return summaries


def stored_identity(folder: Path) -> dict[str, Any]:
    """What made the residue tensors of a folder, where a record of ours lies beside them."""
    if not folder.is_dir():
        raise StateshiftError(f"--residue-location {folder} is no folder.")
    made = (settings["residues"] for settings in _recorded(folder.glob("*.json")) if settings["level"] == "residues")
    return next(made, {})


def vectors_identity(path: Path) -> dict[str, Any]:
    """What made the vectors of a file or a folder: ``aggregator`` and ``residues``, where our record lies beside them.

    Raises
    ------
    StateshiftError
        A folder holds vectors of several aggregators.
    """
    records = _recorded(path.glob("*.json") if path.is_dir() else [path.with_suffix(".json")])
    made = [{k: one[k] for k in ("aggregator", "residues")} for one in records if one["level"] != "residues"]
    if any(one != made[0] for one in made):
        raise StateshiftError(f"{path} holds vectors of several aggregators or residue models: name one file.")
    return made[0] if made else {}


def _recorded(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The settings in those files that are records of a run."""
    for file in sorted(files):
        try:
            settings = json.loads(file.read_text())["settings"]
            if settings["level"] in LEVELS:
                yield settings
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue


def _jobs(source: str | Path | Sequence[Job] | None, reading: Reading) -> Sequence[Job]:
    if source is not None:
        return read_jobs(source) if isinstance(source, str | Path) else source
    if reading.residue_location is None or reading.level != "chains":
        raise StateshiftError("Name what is to be embedded: a folder, a structure, a FASTA or a table.")
    return [Job(file.stem, sequence="") for file in residue_files(reading.residue_location)]


def _residue_model(models: Models, stack: ExitStack) -> ResidueModel:
    if models.esm3_python is None:
        return Esm2Residues(load_esm2(models.checkpoint), models.geometry)
    if models.checkpoint is not None:
        raise StateshiftError("--checkpoint names an ESM2 model and --esm3-python asks for ESM3: choose one.")
    from stateshift.structure.residues.esm3 import Esm3Residues

    return stack.enter_context(Esm3Residues(models.esm3_python))


def _settings(reading: Reading, identity: Mapping[str, Any], trained: TrainedAggregator | None) -> dict[str, Any]:
    """What results depend on."""
    return {
        "level": reading.level,
        "residues": dict(identity),
        "aggregator": trained.sha256 if trained is not None else None,
        "chain_names": reading.chain_names,
        "min_residues": reading.min_residues,
        "max_residues": reading.max_residues,
    }
