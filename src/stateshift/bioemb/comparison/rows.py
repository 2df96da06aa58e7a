"""The tables that are compared: the raw one, and what else makes vectors of the same width of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stateshift.bioemb.codes import Codes
from stateshift.bioemb.settings import DownstreamSettings
from stateshift.bioemb.trained import TrainedBioEmb, open_bioemb, read_config
from stateshift.bioemb.training.train import open_or_resume, train_with_held_out
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable

logger = logging.getLogger(__name__)

WIDTH = 32
"""Of PCA and projection, where no run says it."""
RAW, PCA, PROJECTION, MLM, RANDOM_CODES, BIOEMB = (
    "raw", "PCA", "random projection", "MLM", "BioEmb, random codes", "BioEmb",
)  # fmt: skip


class Source(NamedTuple):
    """What is compared: the raw table, and the run on it where there is one."""

    raw: FeatureTable
    run: TrainedBioEmb | None
    width: int

    @property
    def fitted(self) -> list[str]:
        """The genes that PCA and BioEmb see."""
        return self.run.fitted if self.run else self.raw.genes


def read_source(run: str | Path | None, table: str | Path | None, width: int | None) -> Source:
    """A finished run, or a table alone.

    Raises
    ------
    StateshiftError
        Not exactly one of them is named, it can't be read, or `width` is named with a run.
    """
    if (run is None) == (table is None):
        raise StateshiftError(
            "Name one of --run, a finished `stateshift bioemb train`, and --table, a feature table alone."
        )
    if table is not None:
        return Source(FeatureTable.load(table), None, width or WIDTH)
    if width is not None:
        raise StateshiftError("--width is the run's own bottleneck: leave it out with --run.")
    trained = open_bioemb(run)
    return Source(trained.table, trained, trained.model.shape.bottleneck)


def compared_tables(source: Source, mlm: str | Path | None, output: Path) -> dict[str, FeatureTable]:
    """Name → table of every row.

    PCA and the random projection have the run's width, and see the genes that it saw. The run with random codes is
    trained here, with the run's settings, into ``output/random_codes``.

    Raises
    ------
    StateshiftError
        The table of `mlm` can't be read or lacks names, or ``output/random_codes`` is of another run.
    """
    raw, trained, width = source
    rows = {RAW: raw, PCA: _pca(raw, source.fitted, width), PROJECTION: _projection(raw, source.fitted, width)}
    if mlm is not None:
        rows[MLM] = _mlm(Path(mlm), raw)
        more = set(raw.genes) - set(source.fitted) - set(rows[MLM].provenance.get("not_fitted", raw.genes))
        if more:
            logger.warning(
                "%s was trained on names that BioEmb never saw (%d: %s).", mlm, len(more), some(sorted(more), 3)
            )
    if trained is not None:
        rows[RANDOM_CODES] = _random_codes(trained, output).fine_tuned()
        rows[BIOEMB] = trained.fine_tuned()
    return rows


def _pca(table: FeatureTable, fitted: list[str], b: int) -> FeatureTable:
    """Principal components of the fitted genes, of columns as they are."""
    from sklearn.decomposition import PCA as PrincipalComponents

    seen = table.subset(fitted).vectors
    found = PrincipalComponents(min(b, *seen.shape), random_state=0).fit(seen)
    return FeatureTable(table.genes, found.transform(table.vectors), {"source": "pca"})


def _projection(table: FeatureTable, fitted: list[str], b: int) -> FeatureTable:
    """Columns standardised by the fitted genes and mixed by normal random numbers."""
    seen = table.subset(fitted).vectors
    deviation = seen.std(axis=0)
    scaled = (table.vectors - seen.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    mixed = scaled @ np.random.default_rng(0).standard_normal((table.width, b)) / np.sqrt(b)
    return FeatureTable(table.genes, mixed, {"source": "random projection"})


def _mlm(path: Path, raw: FeatureTable) -> FeatureTable:
    """The table of a ``train-mlm`` run, or a table's file."""
    table = FeatureTable.load(path / "features.pt" if path.is_dir() else path)
    lacking = [gene for gene in raw.genes if gene not in table]
    if lacking:
        raise StateshiftError(f"{path} lacks {len(lacking)} names of the raw table: {some(lacking)}.")
    return table


def _random_codes(trained: TrainedBioEmb, output: Path) -> TrainedBioEmb:
    """The same training on codes dealt to genes at random; one that is there already is read."""
    codes = replace(trained.settings.codes, shuffled=True)
    own = {"name": "random_codes", "output_dir": str(output), "downstream": DownstreamSettings()}
    settings = replace(trained.settings, codes=codes, **own)
    folder = settings.folder
    if not folder.is_dir():
        logger.info("training on random codes, the control.")
        return train_with_held_out(settings, trained.table, set(trained.table.genes) - set(trained.fitted))
    kept, table = replace(read_config(folder), **own), FeatureTable.load(folder / "input.pt")
    same = (
        kept == settings and table.genes == trained.table.genes and np.array_equal(table.vectors, trained.table.vectors)
    )
    if not same or Codes.load(folder / "codes.npz").genes != trained.fitted:
        raise StateshiftError(f"{folder} is the control of another run: choose another folder with --output.")
    return open_or_resume(folder)
