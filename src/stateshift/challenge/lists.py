"""The season's lists: genes, targets and contexts, as they come in its bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stateshift.challenge.seasons import Season
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.files import read_csv
from stateshift.genes import read_names

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class GeneList:
    """The season's genes in order, a first line that looks like a header, and genes listed twice."""

    path: Path
    genes: list[str]
    header: str | None
    twice: list[str]


@dataclass(frozen=True)
class Targets:
    """The targets that have to be predicted.

    Parameters
    ----------
    path
        The table they come from.
    cells
        Context (None: any) → target → its number of cells, None where the table doesn't tell.
    names
        All that the table names, the control included.
    """

    path: Path
    cells: dict[str | None, dict[str, int | None]]
    names: frozenset[str]

    def of(self, context: str) -> dict[str, int | None]:
        """The targets of a context."""
        return self.cells.get(context, self.cells.get(None, {}))

    @property
    def fingerprint(self) -> str:
        """``sha256:`` over the sorted names, a line each: the list's, whatever the file looks like."""
        return f"sha256:{hashlib.sha256(chr(10).join(sorted(self.names)).encode()).hexdigest()}"


@dataclass(frozen=True)
class Panel:
    """The contexts that a file has to cover, where that was found, the panel's id, and what contradicts it."""

    contexts: list[str]
    where: str
    panel_id: str | None = None
    problem: str | None = None


def read_gene_list(path: Path | str, known: list[str]) -> GeneList:
    """First column of a CSV without header; a first line that looks like one is set apart.

    Parameters
    ----------
    path
        ``gene_names.csv`` of the season.
    known
        The prediction's genes: a first line among them is a gene, whatever it looks like.
    """
    header, genes = read_names(path)
    if header in known:
        header, genes = None, [header, *genes]
    counts = pd.Series(genes).value_counts()
    return GeneList(Path(path), genes, header, sorted(counts.index[counts > 1]))


def read_targets(path: Path | str, season: Season) -> Targets:
    """``pert_counts.csv``: a column ``target_gene``; ``n_cells`` and ``context`` where there are such.

    Or the season's template, an h5ad with a row for each cell to be predicted.

    The control's row and repeats are passed over.

    Raises
    ------
    StateshiftError
        The file is no such table, or names nothing.
    InputProblems
        Every line whose number of cells is none, or that lacks its context.
    """
    path, rules = Path(path), season.cells
    if path.suffix == ".h5ad":
        return _of_template(path, season)
    table = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip()
    column = "target_gene" if "target_gene" in table.columns else rules.perturbation
    if column not in table.columns:
        raise StateshiftError(f"{path} has no column `target_gene`{suggestion('target_gene', table.columns)}.")
    context = rules.context if rules.context in table.columns else None
    cells: dict[str | None, dict[str, int | None]] = {}
    problems: list[str] = []
    for line, row in enumerate(table.to_dict("records"), start=2):
        name, number = row[column].strip(), row.get("n_cells", "").strip().removesuffix(".0")
        if not name or name == rules.control:
            continue
        if number and not number.isdigit():
            problems.append(f"line {line}: n_cells of {name} is `{number}`, a whole number is needed.")
            continue
        of = None if context is None else row[context].strip()
        if of == "":
            problems.append(f"line {line}: {name} has no context.")
            continue
        # the packaging tool takes 0 for a number that isn't told
        cells.setdefault(of, {}).setdefault(name, int(number) if number.strip("0") else rules.each)
    if problems:
        raise InputProblems(str(path), problems)
    if not cells:
        raise StateshiftError(f"{path} names no perturbation.")
    return Targets(path, cells, frozenset(table[column].str.strip()) - {""})


def _of_template(path: Path, season: Season) -> Targets:
    """The targets of a template's obs column, and how many rows each has."""
    from stateshift.cells.loading import read_file

    column, context, obs = season.cells.perturbation, season.cells.context, read_file(path, with_matrix=False).obs
    if column not in obs.columns:
        raise StateshiftError(f"{path}: obs has no column `{column}`{suggestion(column, obs.columns)}.")
    columns = [column, context] if context in obs.columns else [column]
    nameless = int(obs[columns].isna().any(axis=1).sum())
    if nameless:
        raise StateshiftError(f"{path}: {nameless:,} rows lack a name in {' or '.join(columns)}.")
    cells: dict[str | None, dict[str, int | None]] = {}
    for (name, *of), rows in obs[columns].astype(str).value_counts().sort_index().items():
        if name != season.cells.control:
            cells.setdefault(of[0] if of else None, {})[name] = int(rows)
    if not cells:
        raise StateshiftError(f"{path} names no perturbation.")
    return Targets(path, cells, frozenset(obs[column].astype(str)))


def find_panel(contexts: list[str] | None, targets: Targets | None, genes: Path) -> Panel | None:
    """The contexts that a file has to cover: as named, by the bundle's manifest, or by the table of targets.

    Where they are named, a manifest that can't be read or is of others is passed over. A manifest of other contexts than
    the table of targets is the panel's `problem`.

    Raises
    ------
    StateshiftError
        The manifest beside the lists can't be read.
    """
    listed = None if targets is None else sorted(c for c in targets.cells if c is not None)
    try:
        manifest = next((m for m in map(_manifest, _folders(targets, genes)) if m is not None), None)
    except StateshiftError:
        if not contexts:
            raise
        manifest = None
    if contexts:
        same = manifest is not None and set(manifest.contexts) == set(contexts)
        return Panel(list(contexts), "--contexts", manifest.panel_id if same else None)
    if manifest is not None and listed and set(listed) != set(manifest.contexts):
        problem = (
            f"{manifest.where} is of the contexts {some(manifest.contexts)}, and {targets.path} of {some(listed)}: take both "
            "from one bundle, or name the --contexts"
        )
        return replace(manifest, problem=problem)
    if manifest is not None:
        return manifest
    return Panel(listed, str(targets.path)) if listed else None


def _folders(targets: Targets | None, genes: Path) -> list[Path]:
    return list(dict.fromkeys([*([targets.path.resolve().parent] if targets else []), genes.resolve().parent]))


def _manifest(folder: Path) -> Panel | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        contexts, panel_id = content["contexts"], content.get("panel_id")
        if (
            not isinstance(contexts, list)
            or not contexts
            or not all(isinstance(c, str) and c.strip() for c in contexts)
        ):
            raise ValueError("its contexts are no list of names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateshiftError(
            f"{path} can't be read as the bundle's manifest ({type(error).__name__}: {error}): mend it, or move it away "
            "and name the --contexts."
        ) from error
    return Panel([c.strip() for c in contexts], str(path), panel_id if panel_id and isinstance(panel_id, str) else None)
