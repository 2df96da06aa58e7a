"""Sequences and molecules by name, read from what the config names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stateshift.bioemb.settings import DataSettings
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.files import read_csv
from stateshift.genes import proteins_of_genes
from stateshift.genes.headers import header_of
from stateshift.proteins import read_fasta, sequences_by_id


@dataclass(frozen=True)
class Texts:
    """What an encoder reads.

    Parameters
    ----------
    kind
        ``protein`` or ``molecule``.
    where
        The file.
    of
        Name → residues or SMILES.
    """

    kind: str
    where: str
    of: Mapping[str, str]


def read_texts(data: DataSettings) -> Texts:
    """The sequences of ``data.fasta`` or the molecules of ``data.molecules``.

    Raises
    ------
    StateshiftError
        Not exactly one of them is named, or it can't be read.
    """
    if (data.fasta is None) == (data.molecules is None):
        raise StateshiftError("Sequences come from one of data.fasta=FILE and data.molecules=FILE: name it.")
    if data.fasta is not None:
        return Texts("protein", data.fasta, _proteins(data))
    return Texts("molecule", data.molecules, read_molecules(data.molecules, data.smiles_column, data.name_column))


def _proteins(data: DataSettings) -> dict[str, str]:
    proteins = read_fasta(data.fasta)
    if data.names == "record":
        return sequences_by_id(proteins, data.fasta)
    symbols = dict.fromkeys(filter(None, (header_of(protein).symbol for protein in proteins)))
    coverage = proteins_of_genes(symbols, proteins, data.fasta)
    return {gene: protein.sequence for gene, protein in coverage.found.items()}


def read_molecules(path: str | Path, smiles_column: str = "smiles", name_column: str | None = None) -> dict[str, str]:
    """Name → SMILES of a csv or tsv; without a column of names, a molecule is named by its SMILES and repeats count once.

    Raises
    ------
    StateshiftError
        The file is missing or no table.
    InputProblems
        Columns are missing, cells are empty, a name stands for two molecules.
    """
    table = read_text_table(path)
    lacking = [c for c in (smiles_column, name_column) if c is not None and c not in table.columns]
    if lacking:
        raise InputProblems(str(path), [f"it has no column `{c}`{suggestion(c, table.columns)}." for c in lacking])
    smiles = table[smiles_column].str.strip()
    names = smiles if name_column is None else table[name_column].str.strip()
    problems = [f"line {i + 2}: `{smiles_column}` is empty." for i in smiles.index[smiles == ""]]
    molecules: dict[str, str] = {}
    for i, (name, said) in enumerate(zip(names, smiles)):
        if not name:
            problems += [f"line {i + 2}: `{name_column}` is empty."] if name_column is not None else []
        elif molecules.setdefault(name, said) != said:
            problems.append(f"line {i + 2}: `{name}` is another molecule further up.")
    if problems or not molecules:
        raise InputProblems(str(path), problems[:30] or ["it holds no molecules."])
    return molecules


def read_text_table(path: str | Path):
    """A csv or tsv as a data frame of text, empty cells empty.

    Raises
    ------
    StateshiftError
        The file is missing or can't be parsed.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    return read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", dtype=str, keep_default_na=False)


def told(texts: Texts) -> str:
    """How many and of what, for a log."""
    return f"{len(texts.of):,} {texts.kind}s of {texts.where} ({some(texts.of, 3)})"
