"""A prediction as a season's `.vcc` file."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift import __version__
from stateshift.cells.matrix.stream import CellStream
from stateshift.challenge.export.package import write_package
from stateshift.challenge.looking import log1p_of
from stateshift.challenge.validation import Validation
from stateshift.challenge.validation.validate import Examined, examined
from stateshift.errors import InputProblems, StateshiftError
from stateshift.files import reserve_room, sha256, written_beside
from stateshift.progress import track

logger = logging.getLogger(__name__)

META_SCHEMA = 1


@dataclass(frozen=True)
class Submission:
    """What was written.

    Parameters
    ----------
    path
        The ``.vcc`` file.
    cells, controls, perturbations, genes
        What it holds; `cells` counts the controls.
    dropped_genes, dropped_controls
        Predicted genes that the season's list does not name, and control cells of a season that wants none.
    validation
        The checks; none failed.
    checksum
        SHA-256 of the file.
    """

    path: Path
    cells: int
    controls: int
    perturbations: int
    genes: int
    dropped_genes: int
    dropped_controls: int
    validation: Validation
    checksum: str


def export_submission(
    predicted: Path | str,
    *,
    season: str | Path,
    genes: Path | str,
    output: Path | str,
    pert_counts: Path | str | None = None,
    contexts: Sequence[str] | None = None,
    controls: Path | str | Sequence[Path | str] | None = None,
    expected_gene_dim: int | None = None,
    overwrite: bool = False,
) -> Submission:
    """Check a prediction against a season's rules and write its `.vcc` file.

    The file is an uncompressed tar of a zstd-compressed h5ad and the season's small members. Its cells have the
    season's obs columns alone, the control by the season's name, ``X`` CSR float32, and the genes in the list's
    order. Where the season wants log1p, counts are brought to the median total and log1p, as ``cell-eval prep`` does.
    The prediction is read twice, in blocks; the h5ad lies beside the output until it is compressed, and its size is
    announced and held against the free disk first.

    Parameters
    ----------
    predicted
        A prediction as in docs/contracts.md.
    season, genes, pert_counts, contexts, controls, expected_gene_dim
        As for `validate`.
    output
        The ``.vcc`` file.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputProblems
        Checks that did not pass, all of them; nothing is written.
    StateshiftError
        A file can't be read or written, `output` exists, or the disk has no room.
    """
    output = Path(output)
    refuse_inputs(output, [predicted, genes, pert_counts, controls])
    with (
        written_beside(output, overwrite) as part,
        examined(predicted, season, genes, pert_counts, contexts, controls, expected_gene_dim) as done,
    ):
        return write_submission(part, output, done)


def refuse_inputs(output: Path, inputs: Sequence[Path | str | Sequence[Path | str] | None]) -> None:
    """A StateshiftError where the output is one of the inputs, which `overwrite` would replace."""
    for path in (path for given in inputs for path in (given if isinstance(given, list | tuple) else [given])):
        if path is not None and Path(path).exists() and output.exists() and output.samefile(path):
            raise StateshiftError(f"{output} is read for the export: choose another name for the output.")


def write_submission(part: Path, output: Path, done: Examined) -> Submission:
    """Write checked cells to `part`, which will be `output`.

    Raises
    ------
    InputProblems
        Checks that did not pass.
    """
    if not done.outcome.passed:
        raise InputProblems(done.outcome.where, done.outcome.problems)
    for warning in done.outcome.warnings:
        logger.warning("%s", warning)
    obs = _season_obs(done)
    _write(part, output, done, obs, int(done.facts.stored.sum()))
    rules, found = done.outcome.season.cells, done.found
    is_control = found.is_control[done.facts.rows]
    return Submission(
        output,
        cells=len(obs),
        controls=int(is_control.sum()),
        perturbations=len(set(found.labels[done.facts.rows][~is_control])),
        genes=len(done.genes.genes),
        dropped_genes=len(found.genes) - len(done.genes.genes),
        dropped_controls=0 if rules.controls else int(found.is_control.sum()),
        validation=done.outcome,
        checksum=sha256(part),
    )


def _write(part: Path, output: Path, done: Examined, obs: pd.DataFrame, n_values: int) -> None:
    """The h5ad beside the output, then the tar with it."""
    rules, genes = done.outcome.season.file, done.genes.genes
    plain = part.with_name(f"{part.name}.h5ad")
    # with room for two chunks that are not filled, and for the file's tables
    size = 8 * n_values + 100 * (len(obs) + len(genes)) + 2**22
    announce(part.parent, size)
    try:
        reserve_room(plain, size)
        with CellStream(plain, obs, pd.DataFrame(index=pd.Index(genes)), {}) as stream:
            for block in track(_season_cells(done), "writing cells"):
                stream.append(block)
        first = {} if rules.meta is None else {rules.meta: _meta(done, len(obs), n_values)}
        last = {} if rules.mark is None else {rules.mark: rules.mark_text.encode()}
        write_package(part, plain, f"{rules.matrix}.zst", rules.zstd_level, first, last)
    finally:
        plain.unlink(missing_ok=True)


def announce(folder: Path, size: int) -> None:
    """Say how large the scratch file will be, and refuse where it and half of it, compressed, don't fit."""
    free = shutil.disk_usage(folder).free
    logger.info("%.2f GB of scratch beside the output (%.1f GB are free)", size / 1e9, free / 1e9)
    if free < 1.5 * size:
        raise StateshiftError(
            f"{folder.resolve()} has {free / 1e9:.1f} GB free, and the file needs {size / 1e9:.1f} GB uncompressed and up "
            f"to {0.5 * size / 1e9:.1f} GB compressed: make room or name another place."
        )


def _season_obs(done: Examined) -> pd.DataFrame:
    """The season's columns of the cells that are handed in."""
    rules, found, rows = done.outcome.season.cells, done.found, done.facts.rows
    labels = np.where(found.is_control, rules.control, found.labels)[rows]
    columns = {rules.perturbation: labels}
    if rules.context is not None:
        columns[rules.context] = found.contexts[rows]
    return pd.DataFrame(columns, index=[str(i) for i in range(len(rows))], dtype="category")


def _season_cells(done: Examined) -> Iterator[csr_matrix]:
    """The cells on the season's genes and scale, a block at a time."""
    found, genes, facts = done.found, done.genes.genes, done.facts
    places = None if found.genes == genes else pd.Index(found.genes).get_indexer(genes)
    wanted = np.zeros(found.n, bool)
    wanted[facts.rows] = True
    normalises = done.scale == "counts" and done.outcome.season.values.scale != "counts"
    if normalises:
        logger.info("%s: counts, brought to the median total and log1p", found.where)
        totals = facts.values.totals
        factors = (totals / np.median(totals[totals > 0])).astype(np.float32)  # of an empty cell it divides nothing
    at = 0
    for _, X in found.blocks(wanted):
        if places is not None:
            X = X[:, places]
            X.sort_indices()
        if normalises:
            log1p_of(X.data, np.asarray(X.indptr, np.int64), factors[at : at + X.shape[0]])
        at += X.shape[0]
        yield X


def _meta(done: Examined, n_cells: int, n_values: int) -> bytes:
    """What `vcc prep` writes beside the matrix: its shape, the contexts, and the fingerprint of the targets' list."""
    content = {
        "schema": META_SCHEMA,
        "nnz": n_values,
        "n_obs": n_cells,
        "n_vars": len(done.genes.genes),
        "cli_version": f"stateshift {__version__}",
        "contexts": None if done.panel is None else done.panel.contexts,
        "perts_fingerprint": None if done.targets is None else done.targets.fingerprint,
    }
    if done.panel is not None and done.panel.panel_id is not None:
        content["panel_id"] = done.panel.panel_id
    return json.dumps({k: v for k, v in content.items() if v is not None}).encode()
