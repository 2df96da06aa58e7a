"""Checks of the season's gene list, and of the prediction's genes against it."""

from __future__ import annotations

from stateshift.challenge.candidate import Candidate
from stateshift.challenge.lists import GeneList
from stateshift.challenge.validation.outcome import Validation
from stateshift.errors import some, suggestion
from stateshift.genes.names import ENSEMBL


def check_genes(outcome: Validation, found: Candidate, wanted: GeneList, expected: int) -> None:
    """The list without header and repeats, its length, and every gene of it predicted."""
    name, problem, headless = wanted.path.name, None, "no header"
    if wanted.header is not None and outcome.season.cells.gene_header:
        headless = f"its header `{wanted.header}` passed over"
    elif wanted.header is not None:
        problem = f"{name} begins with `{wanted.header}`, which looks like a header: the list has none, remove it"
    if wanted.twice:
        twice = f"{name} names {some(wanted.twice)} more than once"
        problem = twice if problem is None else f"{problem}; {twice}"
    outcome.add("gene list", problem, f"{name}, {headless}, every gene once")
    count, problem = len(wanted.genes), None
    if expected != -1 and count != expected:
        problem = f"{name} holds {count:,} genes and {expected:,} are expected (--expected-gene-dim for a reduced list)"
    outcome.add("number of genes", problem, f"{count:,}")
    have, want = set(found.genes), set(wanted.genes)
    missing, extra = [g for g in wanted.genes if g not in have], [g for g in found.genes if g not in want]
    problem = None
    if missing:
        hint = suggestion(missing[0], extra) if len(missing) == 1 and extra else ""
        problem = f"{len(missing):,} of the list's genes are not predicted: {some(missing)}{hint}"
        problem += f"; {len(extra):,} predicted genes are not in the list: {some(extra)}" if extra else ""
        if _ensembl(extra) != _ensembl(missing):
            of_ids, of_symbols = ("prediction", "list") if _ensembl(extra) else ("list", "prediction")
            problem += f"; the {of_ids} names genes by Ensembl ids and the {of_symbols} by symbols"
    order = "" if [g for g in found.genes if g in want] == wanted.genes else "; they are brought to the list's order"
    outcome.add("genes", problem, f"all {count:,} are predicted{order}")
    left_out = f"{len(extra):,} are not in the list, and an export leaves them out: {some(extra, 4)}"
    if problem is None:
        outcome.add("other genes", left_out if extra else None, "none", status="warn")


def _ensembl(genes: list[str]) -> bool:
    """Whether most names are Ensembl's."""
    return sum(bool(ENSEMBL.match(g)) for g in genes) > len(genes) / 2
