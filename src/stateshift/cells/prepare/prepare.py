"""From raw counts to the file that training reads, each step said and counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.cells.experiment import parse_experiment
from stateshift.cells.prepare.knockdown import filter_knockdown
from stateshift.cells.prepare.prepared_file import gathered, grouped, normalise, write_prepared
from stateshift.cells.prepare.quality import judge_quality
from stateshift.cells.prepare.raw import RawCells, read_counts, read_tables
from stateshift.cells.prepare.training_cells import dropped_of_splits, find_training_cells
from stateshift.cells.prepare.variable_genes import variable_genes
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import genes_of
from stateshift.files import written_beside

if TYPE_CHECKING:
    from anndata import AnnData

COLUMN_ROLES = ("perturbation", "cell_type", "batch", "control")

logger = logging.getLogger(__name__)


@dataclass
class Step:
    """What is left after a step, and what was said of it."""

    name: str
    cells: int
    genes: int
    said: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.cells:,} cells × {self.genes:,} genes{f' ({self.said})' if self.said else ''}"


@dataclass
class Prepared:
    """A prepared file.

    Parameters
    ----------
    path
        The file.
    steps
        Cells and genes after each step, the raw file first.
    hvg
        The genes of ``obsm["X_hvg"]`` in their order; empty where none were wanted.
    """

    path: Path
    steps: list[Step] = field(default_factory=list)
    hvg: list[str] = field(default_factory=list)

    def add(self, name: str, cells: int, genes: int, said: str = "") -> None:
        """Count a step, and say it."""
        self.steps.append(Step(name, int(cells), int(genes), said))
        logger.info("%s", self.steps[-1])

    def record(self) -> dict[str, int | str]:
        """The steps as plain values: ``qc_cells``, ``qc_genes``, ``qc_said`` and so on."""
        values: dict[str, int | str] = {}
        for step in self.steps:
            name = step.name.lower().replace(" ", "_").replace("-", "_")
            values |= {f"{name}_cells": step.cells, f"{name}_genes": step.genes, f"{name}_said": step.said}
        return values


def prepare_cells(
    raw: str | Path,
    output: str | Path,
    *,
    layer: str | None = None,
    scale: str | None = None,
    gene_column: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    guide_separator: str | None = None,
    min_genes: int = 200,
    min_counts: int = 500,
    max_mt: float = 20.0,
    min_cells_per_gene: int = 0,
    knockdown_filter: bool = True,
    residual_expression: float = 0.30,
    cell_residual_expression: float = 0.50,
    min_cells_per_perturbation: int = 30,
    experiment: str | Path | None = None,
    dataset: str | None = None,
    hvg: int = 2000,
    keep_targets: bool = False,
) -> Prepared:
    """Raw counts to the file that training reads: QC, knock-down filter, log1p of 1e4, HVGs, cells grouped.

    The matrix is held once, and once more for a moment while the cells that stay are gathered.

    Parameters
    ----------
    raw
        An h5ad file or zarr store with counts. Reads ``X`` or a layer, ``obs``, ``var``, ``uns``, ``obsm``.
    output
        The h5ad file to make; never written over.
    layer
        The layer that holds the counts, in place of ``X``.
    scale
        ``counts``, where whole numbers are marked as something else.
    gene_column
        The ``var`` column of gene symbols, or ``var_names``; genes of one name are summed. Only var_names
        that are unique, and no Ensembl ids beside a column of symbols, are used unasked.
    columns
        ``perturbation``, ``cell_type``, ``batch``, ``control``; those of the experiment's ``[columns]``, then
        conventions, fill what is absent.
    guide_separator
        What parts gene and guide where perturbations are guides: ``_`` makes ``TP53`` of ``TP53_1``. The labels
        as they were stay in ``obs["<perturbation>_guide"]``.
    min_genes, min_counts, max_mt
        Limits of a cell: genes detected, counts, per cent of counts in genes ``MT-…``. 0 switches one off.
    min_cells_per_gene
        Limit of a gene. It is off by default: files of one experiment and a challenge's gene list need
        the same genes, and a gene that is never seen takes no room.
    knockdown_filter
        Keep only perturbed cells whose targets are knocked down (`filter_knockdown`); off for CRISPRa,
        drugs and other perturbations that don't lower a gene of their name.
    residual_expression, cell_residual_expression, min_cells_per_perturbation
        Its thresholds, as cell-load has them.
    experiment, dataset
        An experiment TOML that says which cells train, and the dataset that the output belongs to
        where several might be meant. HVGs come from training cells and the controls of their contexts
        alone; without an experiment, from all cells.
    hvg
        Highly variable genes, in place of any that the raw file marks; 0 marks none.
    keep_targets
        Count every measured perturbed gene as highly variable too.

    Returns
    -------
    Prepared
        The file holds ``X`` (CSR float32, log1p of 1e4), cells in order of context, perturbation and batch;
        obs as it was, with ``total_counts``, ``n_genes_by_counts`` and ``pct_counts_mt`` (counts are
        ``expm1(X) · total_counts / 1e4``); ``var["highly_variable"]``; ``obsm["X_hvg"]`` (n, H) float32;
        ``uns["stateshift"]``: ``scale``, ``prepared`` and ``embedding_genes``.

    Raises
    ------
    InputProblems, StateshiftError
        The file can't be used, its matrix is not proven to hold counts, or nothing would be left of it.
    """
    output = Path(output)
    if output.suffix != ".h5ad":
        raise StateshiftError(f"{output}: a prepared file's name ends in .h5ad, as cell-load wants it.")
    limits = {
        "min_genes": min_genes,
        "min_counts": min_counts,
        "max_mt": max_mt,
        "min_cells_per_gene": min_cells_per_gene,
    }
    thresholds = {
        "residual_expression": residual_expression,
        "cell_residual_expression": cell_residual_expression,
        "min_cells": min_cells_per_perturbation,
    }
    prepared = Prepared(output)
    with written_beside(output) as part:
        tables = read_tables(
            raw,
            layer=layer,
            gene_column=gene_column,
            columns=_declared(columns, experiment),
            guide_separator=guide_separator,
        )
        logger.info("%s: %s", tables.path, tables.columns)
        trains, split = _training_cells(tables, output, experiment, dataset, hvg)
        X = read_counts(tables, scale)
        prepared.add("read", *X.shape)
        quality = judge_quality(X, tables.gene_names, **limits)
        prepared.add("QC", quality.cells.sum(), quality.genes.sum(), quality.said)
        _refuse_empty(
            tables,
            quality.cells,
            f"QC leaves no {{}} (the median cell has {quality.medians()}): lower its "
            "limits, --min-genes and --min-counts; 0 is none",
        )
        keep, after = quality.cells, {"QC": quality.cells}
        if knockdown_filter and (tables.labels["perturbation"] != tables.columns.control).any():
            keep = after["the knock-down filter"] = _knocked_down(tables, X, keep, thresholds, prepared)
        if lost := dropped_of_splits(tables.labels, split, after):
            logger.warning(
                "%s. Of these, training refuses an experiment whose [fewshot] names them, and cells without controls: take "
                "them out of %s, or keep their cells (--no-knockdown-filter, --min-cells-per-perturbation; --min-genes, "
                "--min-counts, --max-mt).",
                "; ".join(lost), Path(experiment).name,
            )  # fmt: skip

        rows = grouped(tables.labels, keep)
        adata = gathered(tables, X, rows, quality)
        del X
        normalise(adata)
        prepared.add("normalised", *adata.shape, "log1p of 1e4 counts a cell")
        if hvg:
            training = np.flatnonzero(trains[rows])
            adata.var["highly_variable"] = _highly_variable(tables, adata, training, hvg, keep_targets, prepared)
        record = {
            **limits,
            "knockdown_filter": knockdown_filter,
            **(thresholds if knockdown_filter else {}),
            "hvg": hvg,
        }
        record |= {"raw": tables.path.name, "layer": layer or "X", "experiment": Path(experiment or "").name}
        write_prepared(adata, part, prepared.record() | record)
    return prepared


def _declared(columns: Mapping[str, str | None] | None, experiment: str | Path | None) -> dict[str, str]:
    """Columns given by flags, before those of the experiment."""
    of_toml = parse_experiment(experiment)[0].columns if experiment else {}
    given = {role: name for role, name in (columns or {}).items() if name is not None}
    return {role: name for role, name in {**of_toml, **given}.items() if role in COLUMN_ROLES}


def _training_cells(
    tables: RawCells, output: Path, experiment: str | Path | None, dataset: str | None, hvg: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mask (n,) of the cells that HVGs may come from; the split of each, "" without an experiment."""
    if experiment is None:
        if dataset is not None:
            raise StateshiftError("--dataset names a dataset of an --experiment: pass both, or leave it out.")
        if hvg:
            logger.warning(
                "No --experiment says which cells train: highly variable genes come from all cells, "
                "those you mean to hold out included."
            )
        return np.ones(len(tables.labels), bool), np.full(len(tables.labels), "")
    trains, split, said = find_training_cells(
        experiment, tables.labels, tables.columns.control, raw=tables.path, output=output, dataset=dataset
    )
    for sentence in said:
        logger.info("%s", sentence)
    return trains, split


def _knocked_down(
    tables: RawCells, X: csr_matrix, keep: np.ndarray, thresholds: dict[str, float], prepared: Prepared
) -> np.ndarray:
    """The cells that stay of those that QC keeps."""
    perturbation = tables.labels["perturbation"].to_numpy()
    found = filter_knockdown(
        X, tables.gene_names, np.where(keep, perturbation, None), tables.columns.control, **thresholds
    )
    said = []
    if found.unmeasured:
        said.append(f"{len(found.unmeasured):,} perturbations whose gene is not measured: {some(found.unmeasured)}")
    if found.weak:
        said.append(f"{len(found.weak):,} not knocked down, or in too few cells: {some(found.weak)}")
    contexts = tables.labels["context"].nunique()
    if contexts > 1:
        said.append(f"{contexts} contexts share one control mean, as cell-load has it")
    prepared.add("knock-down filter", found.keep.sum(), prepared.steps[-1].genes, "; ".join(said))
    _refuse_empty(
        tables,
        found.keep,
        f"the knock-down filter leaves no {{}} ({'; '.join(said)}): --no-knockdown-filter is for CRISPRa, drugs and "
        "labels that are no genes",
    )
    return found.keep


def _refuse_empty(tables: RawCells, keep: np.ndarray, told: str) -> None:
    is_control = (tables.labels["perturbation"] == tables.columns.control).to_numpy()
    for name, mask in (("control cells", is_control), ("perturbed cells", ~is_control)):
        # a file of controls alone, to predict from, never had perturbed cells
        if mask.any() and not (keep & mask).any():
            raise StateshiftError(f"{tables.path}: {told.format(name)}.")


def _highly_variable(
    tables: RawCells, adata: AnnData, training: np.ndarray, hvg: int, keep_targets: bool, prepared: Prepared
) -> np.ndarray:
    """Mask (G,) of the genes of ``X_hvg``."""
    mask = variable_genes(adata.X, training, hvg)
    said = f"{mask.sum():,} vary most among {len(training):,} training cells"
    if keep_targets:
        perturbed = pd.unique(tables.labels["perturbation"])
        targets = adata.var_names.isin([g for p in perturbed if p != tables.columns.control for g in genes_of(p)])
        said += f", and {(targets & ~mask).sum():,} more are perturbed"
        mask = mask | targets
    prepared.hvg = adata.var_names[mask].tolist()
    prepared.add("highly variable genes", adata.n_obs, mask.sum(), said)
    return mask
