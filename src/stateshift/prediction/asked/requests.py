"""What is to be predicted: perturbations by name, and the control cells they start from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.cells import Cells
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.feature_table import genes_of
from stateshift.genes import read_names
from stateshift.genes.doubles import as_spelt, misspelt_doubles

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One population to predict.

    Parameters
    ----------
    context, perturbation
        Its names.
    controls
        Rows of the control cells that it starts from, one predicted cell each.
    """

    context: str
    perturbation: str
    controls: np.ndarray


def read_perturbations(perturb: str | Path | Sequence[str]) -> list[str]:
    """Perturbations from a file (one a line, or a CSV's first column), a comma list, or a sequence.

    A conventional header, blank lines and repeats are dropped.

    Raises
    ------
    StateshiftError
        Nothing is named.

    Examples
    --------
    >>> read_perturbations("KLF1, HK2,KLF1+HK2")
    ['KLF1', 'HK2', 'KLF1+HK2']
    """
    if isinstance(perturb, Path) or (isinstance(perturb, str) and _is_file(perturb)):
        _, names = read_names(perturb)
    else:
        names = perturb.split(",") if isinstance(perturb, str) else list(perturb)
    names = [n.strip() for n in names if n.strip()]
    if not names:
        raise StateshiftError(f"{perturb} names no perturbation.")
    return list(dict.fromkeys("+".join(genes_of(name)) for name in names))


def as_trained(perturbations: Sequence[str], trained: Iterable[str]) -> list[str]:
    """Each perturbation by the name that a run knows it by: ``B+A`` is its ``A+B``, and named twice counts once."""
    spelt = as_spelt(perturbations, trained)
    renamed = [f"`{asked}` is the run's `{name}`" for asked, name in zip(perturbations, spelt) if asked != name]
    if renamed:
        logger.info("doubles are the same in any order: %s", some(renamed, 4))
    return list(dict.fromkeys(as_spelt(spelt, reversed(spelt))))


def refuse_misspelt(perturb: str | Path | Sequence[str], perturbations: Sequence[str], genes: Collection[str]) -> None:
    """Refuse ``A_B``, ``A;B`` and, as a line of a file, ``A,B``, where both halves are known genes and the whole isn't.

    Raises
    ------
    InputProblems
        Each such name, with its right form.
    """
    problems = misspelt_doubles(perturbations, genes)
    if isinstance(perturb, Path) or (isinstance(perturb, str) and _is_file(perturb)):
        lines = Path(perturb).read_text(encoding="utf-8-sig").splitlines()
        # a line of symbols alone; of a table with more columns the first is the list
        with_commas = [line for line in map(str.strip, lines) if line.count(",") == 1]
        problems += misspelt_doubles(with_commas, genes)
    if problems:
        raise InputProblems(str(perturb) if isinstance(perturb, str | Path) else "--perturb", problems)


def make_requests(
    cells: Cells, pairs: Sequence[tuple[str, str]], n_cells: int | None, seed: int, where: str
) -> list[Request]:
    """Choose the control cells of each (context, perturbation).

    Every control cell of a context serves each of its perturbations, or ``n_cells`` of them drawn without
    replacement, the same ones for every perturbation.

    Raises
    ------
    StateshiftError
        A context has no control cells, or fewer than ``n_cells``.
    """
    context = cells.obs["context"].to_numpy()
    chosen: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(c for c, _ in pairs):
        rows = np.flatnonzero(cells.is_control & (context == name))
        if not len(rows):
            known = np.unique(context[cells.is_control])
            raise StateshiftError(f"{where} has no control cells of context `{name}`{suggestion(name, known)}.")
        if n_cells is not None:
            if n_cells > len(rows):
                raise StateshiftError(
                    f"{where} has {len(rows)} control cells of `{name}`, fewer than --n-cells {n_cells}."
                )
            rows = np.sort(np.random.default_rng(seed).choice(rows, n_cells, replace=False))
        chosen[name] = rows
    return [Request(c, p, chosen[c]) for c, p in pairs]


def requested_pairs(
    cells: Cells,
    perturbations: Sequence[str],
    contexts: Sequence[str] | None,
    where: str,
) -> list[tuple[str, str]]:
    """(context, perturbation) for every perturbation in every context that has control cells, or in those named."""
    known = np.unique(cells.obs["context"].to_numpy()[cells.is_control]).tolist()
    wanted = list(dict.fromkeys(contexts)) if contexts else known
    absent = [c for c in wanted if c not in known]
    if absent:
        raise StateshiftError(f"{where} has no control cells of context `{absent[0]}`{suggestion(absent[0], known)}.")
    if cells.control in perturbations:
        raise StateshiftError(f"`{cells.control}` is the control: it is passed through, not predicted. Leave it out.")
    return [(c, p) for c in wanted for p in perturbations]


def split_pairs(
    splits: dict[str, dict[str, dict[str, int]]], split: str, contexts: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """(context, perturbation) of one split of a run, in every context or in those named.

    Raises
    ------
    StateshiftError
        The run has no such split, it is empty, or it has nothing in a context that is named.
    """
    filled = [name for name, pairs in splits.items() if pairs]
    if not filled:
        raise StateshiftError(f"The run records no splits, and so no `{split}`: name genes with --perturb.")
    if not splits.get(split):
        raise StateshiftError(f"The run's split `{split}` is empty (it has {some(filled)}): name genes with --perturb.")
    absent = [c for c in contexts or () if c not in splits[split]]
    if absent:
        raise StateshiftError(
            f"The run's split `{split}` has nothing in `{absent[0]}`{suggestion(absent[0], splits[split])}."
        )
    return [
        (c, p) for c, perturbations in splits[split].items() for p in perturbations if not contexts or c in contexts
    ]


def _is_file(text: str) -> bool:
    """Whether the text names a file rather than genes."""
    return text.endswith((".txt", ".csv", ".tsv")) or ("," not in text and Path(text).is_file())
