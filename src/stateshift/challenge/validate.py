"""All of a season's checks of one prediction at once, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.challenge.candidate import Candidate, GeneList, read_candidate, read_gene_list
from stateshift.challenge.seasons import Season, read_season
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.progress import track

if TYPE_CHECKING:
    from anndata import AnnData
    from rich.table import Table


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was found."""

    name: str
    passed: bool
    detail: str


@dataclass
class Validation:
    """The outcome of all checks.

    Parameters
    ----------
    where
        The prediction's name.
    season
        The rules it was held to.
    checks
        In the order of the table.
    """

    where: str
    season: Season
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def problems(self) -> list[str]:
        """A sentence for each check that did not pass."""
        return [f"{check.name}: {check.detail}." for check in self.checks if not check.passed]

    def add(self, name: str, problem: str | None, detail: str) -> None:
        """Note a check: it failed if there is a problem, which is then its detail."""
        self.checks.append(Check(name, problem is None, detail if problem is None else problem))


def validate(
    predicted: Path | str | AnnData,
    season: str | Path,
    genes: Path | str,
    *,
    expected_gene_dim: int | None = None,
    pert_counts: Path | str | None = None,
    context: str | None = None,
) -> Validation:
    """Hold a prediction to a season's rules.

    Parameters
    ----------
    predicted
        A prediction as in docs/contracts.md, controls included.
    season
        ``2025``, or the path of a rules file.
    genes
        The season's ``gene_names.csv`` (no header).
    expected_gene_dim
        Length of a reduced gene list; −1 for any length. Default: the season's.
    pert_counts
        ``pert_counts_*.csv`` with ``target_gene`` (and ``n_cells``): the perturbations that have to be there.
    context
        The context to hand in, where the prediction holds several.

    Raises
    ------
    StateshiftError
        A file can't be read, or the season is unknown. What the checks find is returned, not raised.
    """
    return examine(predicted, season, genes, expected_gene_dim, pert_counts, context)[0]


def examine(
    predicted: Path | str | AnnData,
    season: str | Path,
    genes: Path | str,
    expected_gene_dim: int | None,
    pert_counts: Path | str | None,
    context: str | None,
) -> tuple[Validation, Candidate, GeneList]:
    """`validate`, and with its outcome the cells and the gene list that it read."""
    rules = read_season(season)
    found = read_candidate(predicted, context)
    wanted = read_gene_list(genes, found.genes)
    where = str(predicted) if isinstance(predicted, str | Path) else "the prediction"
    outcome = Validation(where, rules)
    _check_labels(outcome, found, context)
    _check_genes(outcome, found, wanted, rules.genes if expected_gene_dim is None else expected_gene_dim, Path(genes))
    _check_values(outcome, found)
    if found.labels is not None:
        if pert_counts is not None:
            _check_list(outcome, found, Path(pert_counts))
        _check_cells(outcome, found)
    return outcome, found, wanted


def _check_labels(outcome: Validation, found: Candidate, context: str | None) -> None:
    rules, count = outcome.season, found.X.shape[0]
    problem = None
    if context is None and len(found.contexts) > 1:
        problem = (
            f"the prediction holds {len(found.contexts)} contexts ({some(found.contexts)}): choose one with --context"
        )
    elif context is not None and context not in found.contexts:
        problem = f"no cell has the context `{context}`{suggestion(context, found.contexts)}"
    outcome.add("context", problem, context or some(found.contexts) or "not named in the file")
    outcome.add("perturbation column", found.problems.get("column"), f"becomes `{rules.perturbation}`")
    if found.labels is not None:
        controls = int(found.is_control.sum())
        problem = (
            None if controls else f"no control cells: none is labelled `{found.control}`, and the season wants them"
        )
        outcome.add("control", problem, f"{controls:,} cells of `{found.control}` become `{rules.control}`")
        unnamed = int((found.labels == "").sum())
        outcome.add("labels", f"{unnamed:,} cells name no perturbation" if unnamed else None, "every cell names one")
    problem = None if 0 < count <= rules.most_cells else f"{count:,} cells; the season allows 1 to {rules.most_cells:,}"
    outcome.add("number of cells", problem, f"{count:,} of at most {rules.most_cells:,}")


def _check_genes(outcome: Validation, found: Candidate, wanted: GeneList, expected: int, path: Path) -> None:
    problem = None
    if wanted.header is not None:
        problem = f"{path.name} begins with `{wanted.header}`, which looks like a header: the list has none, remove it"
    elif wanted.twice:
        problem = f"{path.name} names {some(wanted.twice)} more than once"
    outcome.add("gene list", problem, f"{path.name}, no header, every gene once")
    count, problem = len(wanted.genes), None
    if expected != -1 and count != expected:
        problem = (
            f"{path.name} holds {count:,} genes and {expected:,} are expected (--expected-gene-dim for a reduced list)"
        )
    outcome.add("number of genes", problem, f"{count:,}")
    have, want = set(found.genes), set(wanted.genes)
    missing, extra = [g for g in wanted.genes if g not in have], [g for g in found.genes if g not in want]
    problem = None
    if missing:
        hint = suggestion(missing[0], extra) if len(missing) == 1 and extra else ""
        problem = f"{len(missing):,} of the list's genes are not predicted: {some(missing)}{hint}"
        problem += f"; {len(extra):,} predicted genes are not in the list: {some(extra)}" if extra else ""
    left_out = f"; {len(extra):,} more are left out ({some(extra, 4)})" if extra else ""
    outcome.add("genes", problem, f"all {count:,} are predicted{left_out}")


def _check_values(outcome: Validation, found: Candidate) -> None:
    values, rules = found.X.data, outcome.season
    bad = int((~np.isfinite(values)).sum())
    outcome.add("finite", f"{bad:,} values are NaN or infinite" if bad else None, "no NaN, no infinity")
    negative = int((values < 0).sum())
    outcome.add("not negative", f"{negative:,} values are negative" if negative else None, "none below 0")
    if bad or negative:
        return
    try:
        scale = found.scale(outcome.where)
    except StateshiftError as error:
        outcome.add("scale", str(error).removeprefix(f"{outcome.where}: ").rstrip("."), "")
        return
    declared = "declared" if dict(found.uns.get("stateshift", {})).get("scale") else "read off the values"
    if scale == "counts":
        outcome.add("scale", None, f"counts ({declared}): brought to the median total and log1p")
        return
    problem = None
    if values.max() >= rules.below:
        problem = f"values reach {values.max():.3g}; log1p values lie in [0, {rules.below:g})"
    elif not (np.modf(values)[0] > 1e-3).any():
        problem = f"{scale} and yet all whole numbers: the season's tool would take them for counts"
    outcome.add("scale", problem, f"{scale} ({declared}), {values.min():.3g} to {values.max():.3g} where not 0")


def _check_list(outcome: Validation, found: Candidate, path: Path) -> None:
    try:
        counts = pd.read_csv(path, dtype={"target_gene": str}, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StateshiftError(f"{path} can't be read as a table of perturbations: {error}.") from error
    if "target_gene" not in counts.columns:
        raise StateshiftError(f"{path} has no column `target_gene`{suggestion('target_gene', counts.columns)}.")
    wanted = set(counts["target_gene"]) - {outcome.season.control}
    predicted = set(found.labels) - {found.control, ""}
    missing, extra = sorted(wanted - predicted), sorted(predicted - wanted)
    said = [f"{len(missing)} of the list are not predicted: {some(missing)}"] if missing else []
    said += [f"{len(extra)} predicted are not in the list: {some(extra)}"] if extra else []
    differing = 0
    if "n_cells" in counts.columns:
        have = pd.Series(found.labels).value_counts()
        differing = sum(have.get(p, 0) != n for p, n in zip(counts["target_gene"], counts["n_cells"]) if p in predicted)
    note = f"; {differing} have another number of cells than the list, which the season allows" if differing else ""
    outcome.add("perturbations", "; ".join(said) or None, f"all {len(wanted)} of {path.name}{note}")


def _check_cells(outcome: Validation, found: Candidate) -> None:
    predicted = sorted(set(found.labels) - {found.control, ""})
    none = None if predicted else "there is no perturbed cell"
    outcome.add("predictions", none, f"{len(predicted):,} perturbations")
    empty = np.diff(found.X.indptr) == 0
    names = sorted(set(found.labels[empty]))
    problem = f"{int(empty.sum()):,} cells hold nothing but zeros ({some(names)})" if empty.any() else None
    outcome.add("no empty cells", problem, "every cell expresses something")
    copied = _copies_of_controls(found)
    wholly = [p for p in predicted if copied[found.labels == p].all()]
    problem = None
    if wholly:
        problem = f"{len(wholly):,} perturbations are copies of control cells and predict nothing: {some(wholly)}"
    partly = int(copied.sum())
    outcome.add(
        "differ from controls", problem, f"{partly:,} predicted cells equal a control cell" if partly else "all do"
    )


def _copies_of_controls(found: Candidate) -> np.ndarray:
    """Mask (n,) of the perturbed cells whose row equals some control's row exactly."""
    control = found.is_control
    controls = {_row_digest(found.X, i) for i in np.flatnonzero(control)}
    copied = np.zeros(len(control), dtype=bool)
    for i in track(np.flatnonzero(~control), "comparing with controls"):
        copied[i] = _row_digest(found.X, i) in controls
    return copied


def _row_digest(X: csr_matrix, row: int) -> bytes:
    here = slice(X.indptr[row], X.indptr[row + 1])
    digest = blake2b(X.indices[here].tobytes(), digest_size=16)
    digest.update(X.data[here].tobytes())
    return digest.digest()


def validation_table(validation: Validation) -> Table:
    """The checks as a rich table."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", title=f"{validation.where}: {validation.season.title}")
    for check in validation.checks:
        mark = Text("PASS", style="green") if check.passed else Text("FAIL", style="bold red")
        table.add_row(check.name, mark, Text(check.detail))
    return table
