"""Label files: one label a name, or one for each of several tasks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stateshift.bioemb.encoders.texts import read_text_table
from stateshift.errors import InputProblems, StateshiftError, some, suggestion

logger = logging.getLogger(__name__)

TASKS = ("binary", "multiclass", "regression", "calls")
FEW_CLASSES = 20
"""Numbers with more different values than this, or with fractions, are taken for a regression, where most labels are."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Labels:
    """Names and what is known of them.

    Parameters
    ----------
    names
        N, each once.
    task
        ``binary``, ``multiclass``, ``regression``, or ``calls``: many yes-or-no questions at once.
    values
        (N,) class numbers or float64 values; of ``calls`` (N, C) of 0, 1 and NaN where not known.
    classes
        What the numbers mean; of ``calls``, the questions.
    groups
        (N,) which never stand on two sides of a grouped split; None: none are known.
    split
        (N,) of `SPLITS`, as the file gives it; None: it gives none.
    """

    names: list[str]
    task: str
    values: np.ndarray
    classes: list[str]
    groups: np.ndarray | None = None
    split: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """What a head has to say of each name."""
        return len(self.classes) if self.task in ("multiclass", "calls") else 1

    def among(self, names: Sequence[str], where: str) -> Labels:
        """The labels of names that a table has; the others are counted and named.

        Raises
        ------
        StateshiftError
            The table has none of them, or of one class alone.
        """
        there = set(names)
        kept = np.array([name in there for name in self.names])
        if not kept.any():
            raise StateshiftError(
                f"{where}: none of its {len(kept)} names is in the table{suggestion(self.names[0], names)}."
            )
        if not kept.all():
            lacking = [name for name, k in zip(self.names, kept) if not k]
            logger.info(
                "%s: %d of %d names are not in the table and left out: %s.",
                where,
                len(lacking),
                len(kept),
                some(lacking),
            )
        found = replace(
            self,
            names=[name for name, k in zip(self.names, kept) if k],
            values=self.values[kept],
            groups=None if self.groups is None else self.groups[kept],
            split=None if self.split is None else self.split[kept],
        )
        if found.task in ("binary", "multiclass") and len(np.unique(found.values)) < 2:
            only = found.classes[int(found.values[0])]
            raise StateshiftError(
                f"{where}: the names in the table have one class alone, `{only}`: nothing can be learned."
            )
        return found


def read_labels(
    path: str | Path,
    *,
    name_column: str | None = None,
    label_column: str = "label",
    task_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    task: str = "auto",
) -> Labels:
    """Read a csv or tsv with a header.

    Parameters
    ----------
    path
        It.
    name_column
        Default: the first column.
    label_column
        What is to be predicted; rows where it is empty are left out.
    task_column
        With it a row is one yes-or-no answer (1 or 0) of a name to the question named there, as a differential
        expression call of a perturbation for a gene: one head answers all.
    group_column
        What grouped splits keep together.
    split_column
        Which names train, validate and test (``train``, ``val``, ``test``).
    task
        One of `TASKS`; ``auto`` looks at the values.

    Raises
    ------
    InputProblems
        Columns are missing, labels are no numbers where they must be, a name has two labels, groups or splits.
    StateshiftError
        The file is missing, or has one class alone.
    """
    table = read_text_table(path)
    name_column = name_column or (table.columns[0] if len(table.columns) else "name")
    used = [c for c in (name_column, label_column, task_column, group_column, split_column) if c is not None]
    lacking = [f"it has no column `{c}`{suggestion(c, table.columns)}." for c in used if c not in table.columns]
    if task not in (*TASKS, "auto"):
        lacking.append(f"downstream.task={task} is no task{suggestion(task, TASKS)}.")
    if (task == "calls") != (task_column is not None) and task != "auto":
        lacking.append("the task `calls` and a task column go together.")
    if lacking:
        raise InputProblems(str(path), lacking)
    table = table.loc[table[label_column].str.strip() != "", used].apply(lambda column: column.str.strip())
    keys = [name_column] if task_column is None else [name_column, task_column]
    unlike = table.groupby(keys, sort=False)[label_column].nunique()
    problems = [f"`{some(np.atleast_1d(key))}` has {n} different labels." for key, n in unlike[unlike > 1].items()]
    beside = {c: table.groupby(name_column, sort=False)[c] for c in (group_column, split_column) if c is not None}
    for column, grouped in beside.items():
        count = grouped.nunique()
        problems += [f"`{name}` has {n} different values of `{column}`." for name, n in count[count > 1].items()]
    if split_column is not None:
        other = sorted(set(table[split_column]) - set(SPLITS))
        problems += [f"the split `{name}` is none of train, val and test." for name in other]
    if not len(table):
        problems.append("it holds no labels.")
    if problems:
        raise InputProblems(str(path), problems[:30])
    names = list(dict.fromkeys(table[name_column]))
    aside = {c: grouped.first().loc[names].to_numpy() for c, grouped in beside.items()}
    if task_column is not None:
        kind, classes = "calls", sorted(set(table[task_column]))
        values = _calls(path, table, names, classes, name_column, task_column, label_column)
    else:
        kind, values, classes = _one_each(path, table.groupby(name_column, sort=False)[label_column].first(), task)
    return Labels(names, kind, values, classes, aside.get(group_column), aside.get(split_column))


def _one_each(path, labels, task: str) -> tuple[str, np.ndarray, list[str]]:
    """The task, the values and the classes of one label a name."""
    import pandas as pd

    numbers = pd.to_numeric(labels, errors="coerce").to_numpy(np.float64)
    numeric = np.isfinite(numbers)
    distinct = sorted(set(labels), key=lambda label: (len(label), label))
    if task == "auto":
        known = numbers[numeric]
        # a few texts among measured numbers are slips, and no classes
        measured = 2 * len(known) > len(numbers) and ((known % 1 != 0).any() or len(set(known)) > FEW_CLASSES)
        task = "regression" if measured else "binary" if len(distinct) == 2 else "multiclass"
    if task == "regression":
        if not numeric.all():
            wrong = [
                f"`{name}`: the label `{labels[name]}` is no number, which a regression needs: mend it or leave the row out, or name another task with --task."
                for name in labels.index[~numeric]
            ]
            raise InputProblems(str(path), wrong[:30])
        if len(set(numbers)) < 2:
            raise StateshiftError(f"{path}: every label is {numbers[0]:g}: nothing can be learned.")
        return task, numbers, ["value"]
    if len(distinct) < 2:
        raise StateshiftError(f"{path}: it holds one class alone, `{some(distinct)}`: nothing can be learned.")
    if len(distinct) == len(labels) > FEW_CLASSES:
        raise StateshiftError(
            f"{path}: every name has a label of its own ({some(distinct, 3)}): as classes they teach nothing of other names."
        )
    if task == "binary" and len(distinct) > 2:
        raise StateshiftError(f"{path}: a binary task has two classes, not {len(distinct)}: {some(distinct)}.")
    place = {label: i for i, label in enumerate(distinct)}
    return task, np.array([place[label] for label in labels]), distinct


def _calls(path, table, names: list[str], questions: list[str], name: str, question: str, label: str) -> np.ndarray:
    """Answers (N, C): 0, 1 or NaN."""
    wrong = table[~table[label].isin(["0", "1"])]
    if len(wrong):
        raise InputProblems(
            str(path),
            [f"line {i + 2}: the call `{said}` is neither 0 nor 1." for i, said in wrong[label].head(30).items()],
        )
    row, column = ({key: i for i, key in enumerate(keys)} for keys in (names, questions))
    values = np.full((len(names), len(questions)), np.nan)
    values[table[name].map(row), table[question].map(column)] = table[label].astype(float)
    return values
