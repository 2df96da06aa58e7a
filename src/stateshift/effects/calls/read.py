"""A table of calls or values, with its labels and its split."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.cells.pseudobulk import EffectTable, read_effects
from stateshift.cells.pseudobulk.published.columns import CONVENTIONS, find_roles, plain
from stateshift.cells.pseudobulk.published.text import SEPARATORS, TextTable, suffix_of
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.genes import GeneNames

SPLITS = ("train", "val", "test")


@dataclass
class Calls:
    """Effects of a table, what its values are, and which rows train.

    Parameters
    ----------
    effects
        One row a perturbation in a context; NaN where nothing is known.
    labels
        Whether the values are labels 0 and 1.
    split
        Array (R,) of ``train``, ``val`` and ``test``; all ``train`` where the table tells none.
    """

    effects: EffectTable
    labels: bool
    split: np.ndarray

    def part(self, split: str) -> EffectTable:
        """The rows of a split, with the genes that any of them measures.

        Raises
        ------
        StateshiftError
            No row is in it.
        """
        rows = self.effects.rows(self.split == split)
        if not len(rows):
            raise StateshiftError(f"No row is in the split `{split}` (there are: {some(np.unique(self.split))}).")
        return rows.columns(rows.measured.any(axis=0))


def read_calls(path: str | Path, *, in_context: str = "unnamed") -> Calls:
    """Read a table of one row a (perturbation, gene): ``label`` or a value, perhaps ``context`` and ``split``.

    Columns go by the names of `read_effects`. A column ``label`` holds 0, 1 or nothing; a split belongs to a
    perturbation in a context and not to single genes, since whoever predicts one gene of a perturbation
    has to know nothing of the others. A matrix or h5ad file of values is read too, and has no split.

    Parameters
    ----------
    path
        .csv or .tsv, either .gz; or what else `read_effects` reads.
    in_context
        The context of all rows where no column tells it.

    Raises
    ------
    StateshiftError
        The file can't be read.
    InputProblems
        Columns that are missing, ambiguous or misspelt, values that are no labels, a perturbation in two splits.
    """
    path = Path(path)
    header = TextTable.open(path).header if suffix_of(path) in SEPARATORS and path.is_file() else []
    labelled = any(plain(column) == "label" for column in header)
    problems = _misspelt(header)
    if problems:
        raise InputProblems(str(path), problems)
    effects = read_effects(path, in_context=in_context)
    if labelled:
        problems = _no_labels(effects)
    split = np.full(len(effects), "train", dtype="<U5")
    named = [column for column in header if plain(column) == "split"]
    if named:
        of_row, more = _splits(path, header, named[0], in_context)
        problems += more
        if not problems:
            split = np.array([of_row[key] for key in zip(effects.perturbations, effects.contexts)], dtype="<U5")
    if problems:
        raise InputProblems(str(path), problems)
    return Calls(effects, labelled, split)


def training_rows(calls: Calls, regime: str, names: GeneNames) -> tuple[EffectTable, list[str]]:
    """Training rows, without those of a target that is tested in any context, under any of its names.

    Parameters
    ----------
    calls
        A table with its split.
    regime
        ``T``: a tested target is unseen everywhere. ``C``: its rows in other contexts stay.
    names
        What tells that two names are one gene.

    Returns
    -------
    tuple
        The rows, with the genes that they measure, and the targets that were left out.
    """
    keep = calls.split == "train"
    left_out: list[str] = []
    if regime == "T":
        tested = {_key(p, names) for p, s in zip(calls.effects.perturbations, calls.split) if s != "train"}
        again = np.array([_key(p, names) in tested for p in calls.effects.perturbations])
        left_out = sorted({p for p, a, k in zip(calls.effects.perturbations, again, keep) if a and k})
        keep = keep & ~again
    rows = calls.effects.rows(keep)
    if not len(rows):
        raise StateshiftError(
            "No row is left to train on: every one is in `val` or `test`, or its target is (see --regime)."
        )
    return rows.columns(rows.measured.any(axis=0)), left_out


def _key(perturbation: str, names: GeneNames) -> tuple[str, ...]:
    return tuple(sorted(names.key(gene.strip()) for gene in perturbation.split("+")))


def _misspelt(header: list[str]) -> list[str]:
    """Columns without a role whose name is nearly that of one."""
    known = {plain(n): n for names in CONVENTIONS.values() for n in names} | {"split": "split"}
    problems = []
    for column in header:
        if plain(column) not in known:
            near = difflib.get_close_matches(plain(column), list(known), n=1, cutoff=0.8)
            if near:
                problems.append(f"the column `{column}` has no meaning here (did you mean `{known[near[0]]}`?)")
    return problems


def _no_labels(effects: EffectTable) -> list[str]:
    """What is wrong with the labels."""
    values = effects.effects[effects.measured]
    other = sorted(set(np.unique(values)) - {0.0, 1.0})
    if other:
        row, gene = (index[0] for index in np.where(np.isin(effects.effects, other)))
        return [
            f"`label` holds {some([f'{v:g}' for v in other], 4)} (as for {effects.perturbations[row]} on "
            f"{effects.genes[gene]}): 0, 1 or nothing; a column of numbers is called `value`."
        ]
    if not len(values):
        return ["`label` is empty in every row: there is nothing to learn from."]
    if len(np.unique(values)) < 2:
        return [f"`label` is {values[0]:g} in every row: there is nothing to tell apart."]
    return []


def _splits(path: Path, header: list[str], column: str, in_context: str) -> tuple[Mapping, list[str]]:
    """(perturbation, context) → split, and what is wrong with it."""
    roles = find_roles(header, {}, ("perturbation", "gene", "value", "context"), str(path))
    asked = [roles["perturbation"], *([roles["context"]] if "context" in roles else []), column]
    frame = TextTable.open(path).read(asked, [])
    problems = []
    unknown = sorted(set(frame[column]) - set(SPLITS))
    if unknown:
        problems.append(f"`{column}` holds {some(unknown)}: {', '.join(SPLITS)} are known.")
    context = frame[roles["context"]].astype(str) if "context" in roles else in_context
    keyed = frame[[column]].astype(str).assign(p=frame[roles["perturbation"]].astype(str), c=context)
    pairs = keyed.drop_duplicates()
    twice = pairs[pairs.duplicated(["p", "c"])]
    if len(twice):
        problems.append(f"perturbations are in two splits at once: {some(sorted(set(twice['p'])))}.")
    return {(p, c): s for s, p, c in zip(pairs[column], pairs["p"], pairs["c"])}, problems
