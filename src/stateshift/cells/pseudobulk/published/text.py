"""Text tables of effects: header checked, labels and numbers read, what is wrong told by line."""

from __future__ import annotations

import contextlib
import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stateshift.errors import InputProblems, StateshiftError, first_line, some

SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
UNMEASURED = ["", "NA", "N/A", "NaN", "nan", "null", "None"]
LINES_AT_ONCE = 50_000
MOST_SHOWN = 5


def suffix_of(path: Path) -> str:
    """The suffix in small letters, .gz with the one before it."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


@dataclass(frozen=True)
class TextTable:
    """A text table whose header was read.

    Parameters
    ----------
    path
        The file.
    header
        Names of the columns, stripped, each once; "" where R's row names have none.
    """

    path: Path
    header: list[str]

    @classmethod
    def open(cls, path: Path) -> TextTable:
        """Read the header.

        Raises
        ------
        StateshiftError
            The file is missing, empty or no text, has one column, or a line of another length.
        InputProblems
            Columns of one name.
        """
        if not path.is_file():
            raise StateshiftError(f"{path}: there is no such file.")
        separator = SEPARATORS[suffix_of(path)]
        try:
            with _lines(path) as lines:
                header = next(lines, [])
                widths = set(map(len, lines)) - {0}
        except (OSError, EOFError, UnicodeDecodeError, csv.Error, MemoryError) as error:
            raise _unreadable(path, error) from error
        if widths == {len(header) + 1}:
            header = ["", *header]
        header = [name.strip() for name in header]
        if len(header) < 2:
            raise StateshiftError(
                f"{path} has one column: the columns of a {suffix_of(path)} file are separated by "
                f"{'commas' if separator == ',' else 'tabs'}."
            )
        if widths - {len(header)}:
            with _lines(path) as lines:
                line, n = next((i, len(row)) for i, row in enumerate(lines, 1) if row and len(row) != len(header))
            raise StateshiftError(
                f"{path}: line {line} has {n:,} values and the header {len(header):,} columns: quote texts that hold the "
                "separator, write decimal points, and see whether the file is whole."
            )
        twice = sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []
        if twice:
            raise InputProblems(str(path), [f"columns of one name: {some(twice)}."])
        return cls(path, header)

    def read(self, labels: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
        """Some columns: labels as stripped texts (categories), numbers as float, NaN where unmeasured.

        Returns
        -------
        pd.DataFrame
            Its index is the line of each row in the file, blank lines left out.

        Raises
        ------
        StateshiftError
            The file is damaged, or has no row.
        InputProblems
            Values that are no finite number, and labels that are empty, with their lines.
        """
        types = {**dict.fromkeys(labels, "category"), **dict.fromkeys(numbers, np.float64)}
        try:
            frame = self._parsed(types, na_values=dict.fromkeys(numbers, UNMEASURED))
        except MemoryError as error:
            raise _unreadable(self.path, error) from error
        except (ValueError, OSError, EOFError) as error:
            problems = self._not_numbers(numbers)
            if problems:
                raise InputProblems(str(self.path), problems) from error
            raise _unreadable(self.path, error) from error
        frame.index += 2
        for label in labels:
            names = [*(str(c).strip() for c in frame[label].cat.categories), ""]
            frame[label] = pd.Categorical(np.array(names, dtype=object)[frame[label].cat.codes])
        blank = (frame[list(labels)] == "").all(axis=1) & frame[list(numbers)].isna().all(axis=1)
        frame = frame[~blank] if blank.any() else frame
        if not len(frame):
            raise StateshiftError(f"{self.path} has a header and no row.")
        problems = [
            f"`{label or 'the first column'}` is empty in line {frame.index[frame[label] == ''][0]}."
            for label in labels
            if (frame[label] == "").any()
        ]
        for number in numbers:
            bad = np.isinf(frame[number].to_numpy())
            if bad.any():
                problems.append(f"`{number}` is infinite in line {frame.index[bad][0]}.")
        if problems:
            raise InputProblems(str(self.path), problems)
        return frame

    def _parsed(self, types: dict[str, object], **how: object) -> Any:
        """Columns by their types, as pandas reads them."""
        return pd.read_csv(
            self.path,
            sep=SEPARATORS[suffix_of(self.path)],
            names=self.header,
            header=0,
            usecols=list(types),
            dtype=types,
            encoding="utf-8-sig",
            skip_blank_lines=False,
            keep_default_na=False,
            **how,
        )

    def _not_numbers(self, columns: Sequence[str]) -> list[str]:
        """What in these columns is no number, the first few with their lines."""
        found, n_found = [], 0
        try:
            for chunk in self._parsed(dict.fromkeys(columns, str), chunksize=LINES_AT_ONCE):
                for column in columns:
                    texts = chunk[column].fillna("").str.strip()
                    bad = pd.to_numeric(texts, errors="coerce").isna() & ~texts.isin(UNMEASURED)
                    n_found += int(bad.sum())
                    found += [
                        f"`{column}` holds `{texts[i]}` in line {i + 2}, no number."
                        for i in texts.index[bad][: MOST_SHOWN - len(found)]
                    ]
        except (ValueError, OSError, EOFError):
            return []
        return [*found, f"{n_found - MOST_SHOWN:,} more values are no numbers."] if n_found > MOST_SHOWN else found


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Any]:
    """The file's lines as lists of texts."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
        yield csv.reader(handle, delimiter=SEPARATORS[suffix_of(path)])


def _unreadable(path: Path, error: Exception) -> StateshiftError:
    said = first_line(error)
    return StateshiftError(f"{path} can't be read as a table of text: {said}")
