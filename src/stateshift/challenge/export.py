"""A prediction as a season's `.vcc` file: the same bytes for the same prediction, written whole or not at all."""

from __future__ import annotations

import io
import logging
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.challenge.candidate import Candidate
from stateshift.challenge.seasons import Season
from stateshift.challenge.validate import Validation, examine
from stateshift.errors import InputProblems
from stateshift.files import h5ad_bytes, reserve_room, sha256, written_beside

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """What was written.

    Parameters
    ----------
    path
        The ``.vcc`` file.
    cells, controls, perturbations, genes
        What it holds; `cells` counts the controls.
    dropped_genes
        Predicted genes that the season's list does not name.
    validation
        The checks, all passed.
    checksum
        SHA-256 of the file.
    """

    path: Path
    cells: int
    controls: int
    perturbations: int
    genes: int
    dropped_genes: int
    validation: Validation
    checksum: str


def export_submission(
    predicted: Path | str,
    *,
    season: str | Path,
    genes: Path | str,
    output: Path | str,
    expected_gene_dim: int | None = None,
    pert_counts: Path | str | None = None,
    context: str | None = None,
    overwrite: bool = False,
) -> Submission:
    """Check a prediction against a season's rules and write its `.vcc` file.

    The file is an uncompressed tar of ``pred.h5ad.zst`` and ``watermark.txt``. Its cells have the one obs column
    ``target_gene`` with the control renamed, ``X`` CSR float32 log1p, and the genes in the list's order. Counts are
    brought to the median total and log1p, as ``cell-eval prep`` does.

    Parameters
    ----------
    predicted
        A prediction as in docs/contracts.md, controls included.
    season, genes, expected_gene_dim, pert_counts, context
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
        A file can't be read or written, or `output` exists.
    """
    output = Path(output)
    with written_beside(output, overwrite) as part:
        validation, found, wanted = examine(predicted, season, genes, expected_gene_dim, pert_counts, context)
        if not validation.passed:
            raise InputProblems(validation.where, validation.problems)
        X = _season_matrix(found, wanted.genes, validation.where)
        labels = np.where(found.is_control, validation.season.control, found.labels)
        _write(part, X, labels, wanted.genes, validation.season)
    controls = int(found.is_control.sum())
    return Submission(
        output,
        cells=len(labels),
        controls=controls,
        perturbations=len(set(labels)) - 1,
        genes=len(wanted.genes),
        dropped_genes=len(found.genes) - len(wanted.genes),
        validation=validation,
        checksum=sha256(output),
    )


def _season_matrix(found: Candidate, genes: list[str], where: str) -> csr_matrix:
    """X (n, G) CSR float32, log1p, columns in the list's order."""
    X = found.X
    scale = found.scale(where)
    if found.genes != genes:
        X = X[:, pd.Index(found.genes).get_indexer(genes)]
        X.sort_indices()
    X = X.astype(np.float32)
    if scale != "counts":
        return X
    import anndata as ad
    import scanpy as sc

    logger.info("%s: counts, brought to the median total and log1p", where)
    cells = ad.AnnData(X=X)
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    return csr_matrix(cells.X)


def _write(path: Path, X: csr_matrix, labels: np.ndarray, genes: list[str], season: Season) -> None:
    import anndata as ad
    import zstandard

    cells = ad.AnnData(
        X=X,
        obs=pd.DataFrame({season.perturbation: labels}, index=[str(i) for i in range(len(labels))]),
        var=pd.DataFrame(index=pd.Index(genes)),
    )
    with tempfile.TemporaryDirectory(prefix=".vcc-", dir=path.parent) as folder:
        plain = Path(folder) / season.matrix
        packed = plain.with_name(plain.name + ".zst")
        reserve_room(plain, h5ad_bytes(X))
        cells.write_h5ad(plain)
        with open(plain, "rb") as source, open(packed, "wb") as target:
            compressor = zstandard.ZstdCompressor(level=season.zstd_level)
            compressor.copy_stream(source, target, size=plain.stat().st_size)
        plain.unlink()
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            with open(packed, "rb") as source:
                tar.addfile(_member(packed.name, packed.stat().st_size), source)
            mark = season.watermark.encode()
            tar.addfile(_member(season.watermark_name, len(mark)), io.BytesIO(mark))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A tar entry without time or owner, so that the same prediction gives the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry
