"""Which column of a table of effects holds what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from stateshift.cells.columns import CELL_TYPE
from stateshift.errors import InputProblems, some, suggestion

CONVENTIONS = {
    "perturbation": ("perturbation", "pert", "target_gene", "target", "condition"),
    "gene": ("gene", "gene_name", "gene_symbol", "symbol", "readout", "readout_gene", "response_gene", "feature"),
    "value": (
        *("value", "effect", "effect_size", "mean_difference", "delta", "beta", "label"),
        *("log2fc", "log2_fold_change", "avg_log2fc", "logfc", "lfc", "log_fold_change", "logfoldchanges"),
    ),
    "context": CELL_TYPE,
    "standard_error": ("standard_error", "std_error", "stderr", "se", "lfcse"),
    "p_value": (),
}
"""Names by role; case and punctuation don't count. A p value is never found by its name alone: many are adjusted."""

NEEDED = ("perturbation", "gene", "value")
LOG2 = ("log2fc", "log2foldchange", "avglog2fc")


def find_roles(header: Sequence[str], declared: Mapping[str, str], roles: Sequence[str], where: str) -> dict[str, str]:
    """Role → column, as declared or by the one conventional name that is there.

    Parameters
    ----------
    header
        The table's columns.
    declared
        Role → column; it wins, and frees the column from other roles.
    roles
        Those wanted; perturbation, gene and value have to be found.
    where
        The file, for errors.

    Raises
    ------
    InputProblems
        A declared column is absent, a role has two columns or, where it is needed, none.

    Examples
    --------
    >>> find_roles(["Gene", "target_gene", "log2FoldChange"], {}, ("perturbation", "gene", "value"), "t.csv")
    {'perturbation': 'target_gene', 'gene': 'Gene', 'value': 'log2FoldChange'}
    """
    problems = [f"`{r}` is no role of a column{suggestion(r, CONVENTIONS)}." for r in declared if r not in CONVENTIONS]
    for role, column in declared.items():
        if role in CONVENTIONS and column not in header:
            problems.append(f"there is no column `{column}` for the {role}{suggestion(column, header)}.")
    found = {}
    for role in roles:
        if role in declared:
            found[role] = declared[role]
            continue
        named = conventional(header, declared, role)
        if len(named) > 1:
            problems.append(f"{some(named)} could each be the {role}: name the one with {_option(role)}.")
        elif named:
            found[role] = named[0]
        elif role in NEEDED:
            problems.append(_nothing_for(role, header, declared))
    if problems:
        raise InputProblems(where, problems)
    return found


def conventional(header: Sequence[str], declared: Mapping[str, str], role: str) -> list[str]:
    """Columns that go by a conventional name of a role and are not declared to be something else."""
    names = {plain(n) for n in CONVENTIONS[role]}
    return [c for c in header if plain(c) in names and c not in declared.values()]


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())


def _option(role: str) -> str:
    return f'columns={{"{role}": …}}'


def _nothing_for(role: str, header: Sequence[str], declared: Mapping[str, str]) -> str:
    genes = conventional(header, declared, "gene")
    if role == "perturbation" and genes:
        return (
            f"`{genes[0]}` could be the perturbed gene or the measured one, and nothing else names the perturbation: "
            f"say which column does with {_option('perturbation')}."
        )
    return (
        f"no column for the {role} ({some(CONVENTIONS[role], 20)}): name it with {_option(role)}; "
        f"the columns are {some(header, 12) or 'none'}."
    )
