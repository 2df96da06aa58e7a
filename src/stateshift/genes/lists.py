"""Lists of genes in text and csv files."""

from __future__ import annotations

import csv
from pathlib import Path

from stateshift.errors import StateshiftError

HEADERS = (
    "gene",
    "genes",
    "gene_name",
    "gene_names",
    "gene_symbol",
    "symbol",
    "target_gene",
    "perturbation",
    "feature",
    "name",
    "index",
    "0",
)


def read_names(path: str | Path) -> tuple[str | None, list[str]]:
    """The first column of a text, csv or tsv file, blank lines passed over.

    Returns
    -------
    tuple
        The header, where the first line reads like one (`HEADERS`), else None; and the names, repeats kept.

    Raises
    ------
    StateshiftError
        The file is missing, isn't text, or names nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such list of genes.")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        delimiter = "\t" if any("\t" in line for line in lines) else ","
        names = [row[0].strip() for row in csv.reader(lines, delimiter=delimiter) if row[0].strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StateshiftError(f"{path} can't be read as a list of genes: it is no text file.") from error
    header = names[0] if names and names[0].casefold() in HEADERS else None
    names = names[header is not None :]
    if not names:
        raise StateshiftError(f"{path} names no genes: one symbol a line, or a csv with symbols in its first column.")
    return header, names
