"""Hold a prediction to a season's rules, before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.challenge.candidate import Candidate, opened_candidate
from stateshift.challenge.facts import CellFacts, gather
from stateshift.challenge.lists import GeneList, Panel, Targets, find_panel, read_gene_list, read_targets
from stateshift.challenge.seasons import Season, read_season
from stateshift.challenge.validation.cells import check_cells, check_contexts
from stateshift.challenge.validation.genes import check_genes
from stateshift.challenge.validation.labels import check_labels, check_targets, wanted_rows
from stateshift.challenge.validation.outcome import Validation
from stateshift.challenge.validation.values import check_total, check_values
from stateshift.errors import StateshiftError, some

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Examined:
    """A candidate, the season's lists, and what the checks gathered.

    Parameters
    ----------
    outcome
        All checks.
    found
        The candidate, open for reading.
    genes, targets, panel
        The season's lists, as far as they are known.
    facts
        Of the cells that are handed in.
    scale
        ``counts``, ``log1p_1e4`` or ``log1p``; None where the values have none.
    """

    outcome: Validation
    found: Candidate
    genes: GeneList
    targets: Targets | None
    panel: Panel | None
    facts: CellFacts
    scale: str | None


def validate(
    predicted: Path | str | AnnData,
    season: str | Path,
    genes: Path | str,
    *,
    pert_counts: Path | str | None = None,
    contexts: Sequence[str] | None = None,
    controls: Path | str | Sequence[Path | str] | None = None,
    expected_gene_dim: int | None = None,
) -> Validation:
    """Hold a prediction to a season's rules: every check and its figure.

    The file is read once, in blocks; memory is a few numbers a cell and two a target, context and gene.

    Parameters
    ----------
    predicted
        A prediction as in docs/contracts.md, with or without control cells.
    season
        ``2025``, ``2026``, or the path of a rules file.
    genes
        The season's ``gene_names.csv`` (no header).
    pert_counts
        The season's ``pert_counts*.csv``: ``target_gene``, and ``n_cells`` and ``context`` where it has them.
    contexts
        The contexts that the season wants, where no ``manifest.json`` lies beside the lists; of a season of one
        context, the one to hand in.
    controls
        The season's control cells, in one file or several. Of a season whose file holds none, copies of them and swapped contexts show; of one in
        log1p, cells on another total.
    expected_gene_dim
        Length of a reduced gene list; −1 for any length. Default: the season's.

    Raises
    ------
    StateshiftError
        A file can't be read, or the season is unknown. What the checks find is returned, not raised.
    """
    with examined(predicted, season, genes, pert_counts, contexts, controls, expected_gene_dim) as done:
        return done.outcome


@contextlib.contextmanager
def examined(
    predicted: Path | str | AnnData,
    season: str | Path,
    genes: Path | str,
    pert_counts: Path | str | None,
    contexts: Sequence[str] | None,
    controls: Path | str | Sequence[Path | str] | None,
    expected_gene_dim: int | None,
) -> Iterator[Examined]:
    """`validate`, with the candidate open and what was gathered of it."""
    rules = read_season(season)
    targets = None if pert_counts is None else read_targets(pert_counts, rules)
    panel = find_panel(list(contexts or []), targets, Path(genes))
    with opened_candidate(predicted, rules.cells) as found:
        yield examine(found, rules, genes, targets, panel, controls, expected_gene_dim)


def examine(
    found: Candidate,
    rules: Season,
    genes: Path | str,
    targets: Targets | None,
    panel: Panel | None,
    controls: Path | str | Sequence[Path | str] | None,
    expected_gene_dim: int | None,
) -> Examined:
    """All checks of an open candidate."""
    wanted = read_gene_list(genes, found.genes)
    outcome = Validation(found.where, rules)
    rows = wanted_rows(outcome, found, panel)
    check_labels(outcome, found, rows)
    check_genes(outcome, found, wanted, rules.cells.genes if expected_gene_dim is None else expected_gene_dim)
    if found.labels is not None:
        check_targets(outcome, found, rows, targets)
    have, want = set(found.genes), set(wanted.genes)
    listed = np.array([g in want for g in found.genes]) if want < have else None
    facts = gather(found, rows, whole=rules.values.whole, listed=listed)
    scale = check_values(outcome, found, facts) if len(facts.rows) else None
    real = None if controls is None else _real_controls(controls, found, rules)
    if scale in ("log1p", "log1p_1e4") and rules.values.scale == "log1p":
        check_total(outcome, facts, real)
    if found.labels is not None and len(facts.rows) and not facts.values.n_bad:
        kept_out = found.is_control & ~rows
        own = gather(found, kept_out, "reading controls") if real is None and kept_out.any() else None
        check_cells(outcome, facts, found.control, own if real is None else real)
        if rules.cells.context is not None:
            check_contexts(outcome, facts, real, scale)
    return Examined(outcome, found, wanted, targets, panel, facts, scale)


def _real_controls(controls: Path | str | Sequence[Path | str], found: Candidate, rules: Season) -> CellFacts:
    """Facts of the season's control cells, on the prediction's genes."""
    with opened_candidate(controls, rules.cells) as real:
        places = pd.Index(real.genes).get_indexer(found.genes)
        if (places < 0).any():
            absent = [g for g, place in zip(found.genes, places) if place < 0]
            raise StateshiftError(f"{real.where} lacks {len(absent):,} of the prediction's genes: {some(absent)}.")
        if not real.n:
            raise StateshiftError(f"{real.where} has no cells: name the season's control cells.")
        wanted = real.is_control if real.is_control.any() else np.ones(real.n, bool)
        real.labels = None
        facts = gather(real, wanted, "reading controls", None if real.genes == found.genes else places)
        facts.values.refuse_bad_values(real.where)
        return facts
