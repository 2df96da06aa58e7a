"""Training from what a user has: structures or sequences or stored tensors, and scores, or classes, or neither."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stateshift.errors import StateshiftError, some
from stateshift.proteins import load_esm2, read_fasta
from stateshift.proteins.classes import read_classes
from stateshift.structure.aggregator import TrainedAggregator
from stateshift.structure.parsing import Chain, read_chain, read_chains
from stateshift.structure.pipeline.commands import stored_identity
from stateshift.structure.pipeline.jobs import read_jobs
from stateshift.structure.residues import Entry, Esm2Residues, read_residues, residue_files
from stateshift.structure.training.pairs import Pairs, class_pairs, read_pairs, tm_pairs
from stateshift.structure.training.train import TrainingSettings, train_aggregator
from stateshift.surroundings import left_alone


class StoredRows(Mapping):
    """Name → residue rows of a folder of tensors, read when asked for."""

    def __init__(self, folder: str | Path):
        self.files = {file.stem: file for file in residue_files(folder)}

    def __getitem__(self, name: str) -> Tensor:
        return read_residues(self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@left_alone()
def train_from_files(
    output: str | Path,
    *,
    structures: str | Path | None = None,
    fasta: str | Path | None = None,
    residue_location: str | Path | None = None,
    pairs: str | Path | None = None,
    classes: str | Path | None = None,
    val_pairs: str | Path | None = None,
    checkpoint: str | None = None,
    geometry: bool = False,
    pairs_per_level: int = 2000,
    settings: TrainingSettings | None = None,
    trainer_options: Mapping[str, Any] | None = None,
) -> TrainedAggregator:
    """Train an aggregator and write it.

    Parameters
    ----------
    output
        The aggregator's file.
    structures, fasta, residue_location
        Where residue rows come from, one of them: what `read_jobs` takes of structures (the chain that a table
        names, else the first of each, by the file's or the table's name), sequences, or stored tensors.
    pairs, classes
        Similarities: a table ``a,b,tm``, or classes (``name<tab>a.1.1.2``); with structures neither is
        needed: TM-scores are computed.
    val_pairs
        A table ``a,b,tm`` to choose the checkpoint by.
    checkpoint, geometry
        The ESM2 model and whether local geometry follows it.
    pairs_per_level
        Pairs drawn of each level that classes have.
    settings, trainer_options
        As in `train_aggregator`.

    Raises
    ------
    StateshiftError
        Arguments contradict each other or an input can't be used.
    """
    given = [s for s in (structures, fasta, residue_location) if s is not None]
    if len(given) != 1:
        raise StateshiftError("Name the chains by one of --structures, --fasta and --residue-location.")
    if pairs is not None and classes is not None:
        raise StateshiftError("--pairs and --classes both say how alike chains are: choose one.")
    if geometry and structures is None:
        raise StateshiftError("--geometry needs --structures.")
    chains = _chains(structures) if structures is not None else {}
    learned = _pairs(pairs, classes, chains, pairs_per_level, (settings or TrainingSettings()).seed)
    if residue_location is not None:
        rows, identity = StoredRows(residue_location), stored_identity(Path(residue_location))
    else:
        model = Esm2Residues(load_esm2(checkpoint), geometry)
        if chains:
            entries = [Entry.of_chain(name, chain, geometry) for name, chain in chains.items()]
        else:
            wanted = set(learned.names)
            entries = [Entry(p.id, p.sequence) for p in read_fasta(fasta) if p.id in wanted]
        rows, identity = dict(zip([entry.name for entry in entries], model.rows(entries))), model.identity
    measured = read_pairs(val_pairs) if val_pairs is not None else None
    return train_aggregator(learned, rows, identity, output, settings, measured, trainer_options)


def _chains(structures: str | Path) -> dict[str, Chain]:
    """Name → chain of each structure, the one named or the first; all that can't be read are told at once."""
    chains, problems = {}, []
    jobs = read_jobs(structures)
    if any(job.sequence is not None for job in jobs):
        raise StateshiftError(f"{structures} holds sequences, not structures: hand it over with --fasta.")
    for job in jobs:
        try:
            chains[job.key] = read_chain(job.source, job.part) if job.part else read_chains(job.source)[0]
        except StateshiftError as error:
            problems.append(str(error))
    if problems:
        raise StateshiftError(f"{len(problems)} structures can't be trained on: {some(problems, 5)}")
    return chains


def _pairs(
    pairs: str | Path | None, classes: str | Path | None, chains: Mapping[str, Chain], per_level: int, seed: int
) -> Pairs:
    if pairs is not None:
        return read_pairs(pairs)
    if classes is not None:
        known = read_classes(classes)
        if chains:
            known = {name: code for name, code in known.items() if name in chains}
            if len(known) < 2:
                raise StateshiftError(f"{classes} names fewer than two of the structures ({some(chains, 3)}).")
        return class_pairs(known, per_level, seed)
    if not chains:
        raise StateshiftError("How alike the chains are is to be said by --pairs or --classes.")
    return tm_pairs(chains)
