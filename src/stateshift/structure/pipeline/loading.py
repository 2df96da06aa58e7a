"""A job into chains ready to embed, or a sentence that says why not; runs in the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from stateshift.errors import StateshiftError
from stateshift.structure.parsing import read_assemblies, read_chain, read_chains
from stateshift.structure.pipeline.jobs import Job
from stateshift.structure.residues import Entry, read_residues, residue_files

LEVELS = ("residues", "chains", "assemblies")


@dataclass(frozen=True)
class Reading:
    """How structures are read.

    Parameters
    ----------
    level
        One of `LEVELS`.
    format, chain_names, min_residues, max_residues
        As `read_chain` takes them.
    geometry
        Whether entries carry local geometry.
    residue_location
        A folder of stored residue tensors, ``NAME.CHAIN.pt`` by label name, in place of a residue model.
    """

    level: str = "chains"
    format: str = "auto"
    chain_names: str = "label"
    min_residues: int = 0
    max_residues: int | None = None
    geometry: bool = False
    residue_location: str | None = None


@dataclass(eq=False)
class Loaded:
    """What a job gave.

    Parameters
    ----------
    job
        The job.
    entries
        Its chains, each once.
    rows
        Their stored residue rows, where these are used.
    results
        Name of each result → the places in `entries` that it is made of, copies repeated.
    failure
        Why there is nothing; empty where there is.
    """

    job: Job
    entries: list[Entry] = field(default_factory=list)
    rows: list[np.ndarray] | None = None
    results: dict[str, list[int]] = field(default_factory=dict)
    failure: str = ""


class JobData(Dataset):
    """Jobs by number, loaded when asked for; what goes wrong with one stays with it."""

    def __init__(self, jobs: Sequence[Job], reading: Reading):
        self.jobs, self.reading = jobs, reading

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, number: int) -> Loaded:
        job = self.jobs[number]
        try:
            return load(job, self.reading)
        except StateshiftError as error:
            return Loaded(job, failure=str(error))


def load(job: Job, reading: Reading) -> Loaded:
    """Read what a job names.

    Raises
    ------
    StateshiftError
        A file, chain, assembly or tensor can't be had, or is outside the limits.
    """
    if reading.level == "assemblies":
        return _assemblies(job, reading)
    if reading.residue_location is not None:
        return _stored(job, reading)
    if job.sequence is not None:
        _check_length(len(job.sequence), job.key, reading)
        return Loaded(job, [Entry(job.key, job.sequence)], results={job.key: [0]})
    limits = {"min_residues": reading.min_residues, "max_residues": reading.max_residues}
    if job.part is None:
        chains = read_chains(job.source, reading.format, **limits)
    else:
        chains = [read_chain(job.source, job.part, reading.chain_names, reading.format, **limits)]
    names = [job.result(getattr(chain, reading.chain_names)) for chain in chains]
    if len(set(names)) < len(names):
        raise StateshiftError(f"{job.source}: author chains share names: use --chain-names label.")
    entries = [Entry.of_chain(name, chain, reading.geometry) for name, chain in zip(names, chains)]
    return Loaded(job, entries, results={entry.name: [i] for i, entry in enumerate(entries)})


def _stored(job: Job, reading: Reading) -> Loaded:
    """A job's chains from their residue tensors; nothing else is read."""
    folder = Path(reading.residue_location)
    if job.sequence is not None:
        files = {job.key: folder / f"{job.name}.pt"}
    elif job.part is not None:
        # a table gave its tensors its own names
        named = folder / f"{job.key}.pt"
        files = {job.key: named if named.is_file() else folder / f"{job.name}.{job.part}.pt"}
    else:
        stored = residue_files(folder)
        for name in (job.key, job.name):
            files = {
                job.key + f.stem.removeprefix(name): f for f in stored if name in (f.stem, f.stem.rpartition(".")[0])
            }
            if files:
                break
        else:
            raise StateshiftError(f"{folder} holds no residue tensors of `{job.name}` ({job.name}.CHAIN.pt).")
    rows = [read_residues(path).numpy() for path in files.values()]
    for name, chain in zip(files, rows):
        _check_length(len(chain), name, reading)
    return Loaded(job, [Entry(name, "") for name in files], rows, {name: [i] for i, name in enumerate(files)})


def _assemblies(job: Job, reading: Reading) -> Loaded:
    if job.sequence is not None:
        raise StateshiftError(f"`{job.name}` is a sequence: assemblies need structures.")
    assemblies = read_assemblies(
        job.source, job.part, reading.format, min_residues=reading.min_residues, max_residues=reading.max_residues
    )
    chains = {chain.label: chain for assembly in assemblies for chain in assembly.chains}
    place = {label: i for i, label in enumerate(chains)}
    results = {job.result(a.name): [place[c.label] for c in a.chains] for a in assemblies}
    if reading.residue_location is None:
        entries = [Entry.of_chain(f"{job.name}.{label}", c, reading.geometry) for label, c in chains.items()]
        return Loaded(job, entries, results=results)
    files = [Path(reading.residue_location) / f"{job.name}.{label}.pt" for label in chains]
    entries = [Entry(f"{job.name}.{label}", "") for label in chains]
    return Loaded(job, entries, [read_residues(path).numpy() for path in files], results)


def _check_length(length: int, name: str, reading: Reading) -> None:
    most = reading.max_residues
    if length < reading.min_residues or (most is not None and length > most):
        limits = f"{reading.min_residues} to {'any number' if most is None else most}"
        raise StateshiftError(f"`{name}` has {length} residues, outside the limits ({limits}).")
