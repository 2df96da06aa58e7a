"""Clusters from what a user has: alignments, FASTA groups, folders of either, or a table of classes."""

from __future__ import annotations

import logging
from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError, first_line, some, suggestion
from stateshift.files import refuse_parquet_without_pyarrow
from stateshift.progress import track
from stateshift.proteins.classes import read_classes
from stateshift.proteins.fasta import LETTERS, Protein, raw_records, read_fasta, read_sequences
from stateshift.rag_esm.homologs.clusters import Cluster, distinct

logger = logging.getLogger(__name__)

ALIGNMENTS = (".a3m", ".a3m.gz")
SEQUENCES = (".fasta", ".fa", ".faa", ".fasta.gz", ".fa.gz", ".faa.gz")
TABLES = (".parquet", ".jsonl")


def read_a3m(path: str | Path) -> Cluster:
    """A cluster from an a3m alignment: small letters are insertions, ``-`` and ``.`` gaps.

    A member without a name is called by its number; J is read as X.

    Raises
    ------
    InputProblems
        Rows of another number of columns than the first, or with letters that are no amino acids.
    """
    path = Path(path)
    ids, sequences, aligned, problems = [], [], [], []
    for number, (header, raw) in enumerate(_named_records(path), start=1):
        name = header.split()[0] if header else f"{path.stem}_{number}"
        columns = "".join(x for x in raw if not x.islower()).replace("J", "X").replace(".", "")
        sequence = raw.upper().replace("-", "").replace(".", "").replace("J", "X")
        strange = sorted(set(sequence) - set(LETTERS))
        if strange:
            problems.append(f"row `{name}` holds {some(map(repr, strange))}, no amino acid.")
        elif aligned and len(columns) != len(aligned[0]):
            problems.append(f"row `{name}` has {len(columns)} columns, the first row {len(aligned[0])}.")
        elif sequence:
            ids.append(name)
            sequences.append(sequence)
            aligned.append(columns)
    if problems:
        raise InputProblems(str(path), problems[:20])
    if not ids:
        raise StateshiftError(f"{path} holds no aligned sequences.")
    return distinct(Cluster(_stem(path), tuple(ids), tuple(sequences), tuple(aligned)))


def read_source(source: str | Path, classes: str | Path | None = None) -> list[Cluster]:
    """Clusters from any of the forms below; each has one member for each sequence.

    Parameters
    ----------
    source
        An a3m; a FASTA whose headers name a group (``>id cluster=NAME`` or ``>NAME/id``), or with `classes`; a folder
        of such a3m or FASTA files, a cluster each, named by the file, or by its folder where OpenProteinSet's layout
        ``ACCESSION/a3m/NAME.a3m`` has several; or a Hugging Face data set's folder of ``.parquet`` or ``.jsonl`` files
        with the columns ``cluster`` and ``sequence`` and, if there is one, ``id``.
    classes
        A table of name and class without a header, tab or comma between them, as SCOP's families.

    Raises
    ------
    StateshiftError
        It is none of these.
    """
    path = Path(source)
    if classes is not None:
        return _by_class(path, Path(classes))
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(ALIGNMENTS):
        return [read_a3m(path)]
    if path.name.endswith(TABLES):
        return _table([path])
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file or folder.")
    return _groups(path)


def _folder(folder: Path) -> list[Cluster]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    tables = [file for file in files if file.name.endswith(TABLES)]
    if tables:
        return _table(tables)
    found = [file for file in files if file.name.endswith(ALIGNMENTS + SEQUENCES)]
    if not found:
        raise StateshiftError(f"{folder} holds no clusters: no {', '.join(ALIGNMENTS + SEQUENCES + TABLES)} is in it.")
    clusters, problems = [], []
    for file in track(found, "Reading clusters", total=len(found)):
        try:
            cluster = read_a3m(file) if file.name.endswith(ALIGNMENTS) else _one(_stem(file), read_fasta(file))
            name = file.parents[1].name if file.parent.name == "a3m" else cluster.name
            clusters.append(Cluster(name, cluster.ids, cluster.sequences, cluster.aligned))
        except StateshiftError as error:
            problems.append(str(error))
    if problems:
        raise InputProblems(str(folder), problems[:20])
    return _united(clusters)


def _united(clusters: list[Cluster]) -> list[Cluster]:
    """Clusters of one name as one; alignments that differ don't share columns, so these are given up."""
    by_name: dict[str, list[Cluster]] = {}
    for cluster in clusters:
        by_name.setdefault(cluster.name, []).append(cluster)
    return [
        same[0]
        if len(same) == 1
        else distinct(Cluster(name, sum((c.ids for c in same), ()), sum((c.sequences for c in same), ())))
        for name, same in by_name.items()
    ]


def _groups(path: Path) -> list[Cluster]:
    groups: dict[str, list[Protein]] = {}
    lacking = []
    for protein in read_fasta(path):
        told = [word.removeprefix("cluster=") for word in protein.description.split() if word.startswith("cluster=")]
        group = told[0] if told else protein.id.partition("/")[0] if "/" in protein.id else None
        if group is None:
            lacking.append(protein.id)
        else:
            groups.setdefault(group, []).append(protein)
    if lacking:
        raise StateshiftError(
            f"{path}: records name no group ({some(lacking, 3)}): write `>id cluster=NAME`, or say each "
            "one's class with --classes."
        )
    return [_one(name, proteins) for name, proteins in groups.items()]


def _by_class(fasta: Path, classes: Path) -> list[Cluster]:
    class_of = read_classes(classes)
    sequences = read_sequences(fasta)
    unknown = [name for name in sequences if name not in class_of]
    if len(unknown) == len(sequences):
        near = suggestion(unknown[0], class_of)
        raise StateshiftError(f"{classes} names none of the sequences of {fasta}: `{unknown[0]}` isn't there{near}.")
    if unknown:
        logger.warning("%d sequences have no class in %s and are left out: %s.", len(unknown), classes, some(unknown))
    members: dict[str, list[Protein]] = {}
    for name, sequence in sequences.items():
        if name in class_of:
            members.setdefault(class_of[name], []).append(Protein(name, "", sequence))
    return [_one(name, proteins) for name, proteins in members.items()]


def _table(files: list[Path]) -> list[Cluster]:
    import pandas as pd

    frames = []
    for file in files:
        refuse_parquet_without_pyarrow(file)
        try:
            frames.append(pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_json(file, lines=True))
        except (ValueError, OSError) as error:
            raise StateshiftError(f"{file} can't be read as a table: {first_line(error)}.") from error
        lacking = [column for column in ("cluster", "sequence") if column not in frames[-1]]
        if lacking:
            raise StateshiftError(
                f"{file} has no column `{lacking[0]}`{suggestion(lacking[0], map(str, frames[-1].columns))}."
            )
    table = pd.concat(frames, ignore_index=True)
    # as texts they would be a cluster `None` and, of letters that are amino acids, proteins `NONE` and `NAN`
    empty = table.index[table[["cluster", "sequence"]].isna().any(axis=1)]
    if len(empty):
        rows = some([str(row + 1) for row in empty])
        raise StateshiftError(f"{len(empty)} rows of the table lack a cluster or a sequence: {rows}; leave them out.")
    ids = table["id"].astype(str) if "id" in table else table.index.astype(str)
    sequences = table["sequence"].astype(str).str.upper().str.replace("J", "X")
    strange = [i for i, s in zip(ids, sequences) if not s or set(s) - LETTERS]
    if strange:
        raise StateshiftError(f"{len(strange)} sequences of the table are no proteins: {some(strange)}.")
    members: dict[str, list[Protein]] = {}
    for group, name, sequence in zip(table["cluster"].astype(str), ids, sequences):
        members.setdefault(group, []).append(Protein(name, "", sequence))
    return [_one(name, proteins) for name, proteins in members.items()]


def _one(name: str, proteins: list[Protein]) -> Cluster:
    return distinct(Cluster(name, tuple(p.id for p in proteins), tuple(p.sequence for p in proteins)))


def _named_records(path: Path) -> list[tuple[str, str]]:
    """Records of an alignment; unlike a FASTA's they may lack a name."""
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such alignment.")
    if path.suffix == ".gz":
        return list(raw_records(path))
    records: list[tuple[str, str]] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StateshiftError(f"{path} is no alignment: it isn't text.") from error
    for part in ("\n" + text.strip()).split("\n>")[1:]:
        header, _, rows = part.partition("\n")
        records.append((header.strip(), "".join(rows.split())))
    return records


def _stem(path: Path) -> str:
    name = path.name
    return name[: -len(next(e for e in ALIGNMENTS + SEQUENCES if name.endswith(e)))]
