"""Effects as AnnData: perturbations × genes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stateshift import __version__
from stateshift.cells.matrix.stored import opened, refuse_repeats, whole_matrix
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.pseudobulk.published.columns import find_roles
from stateshift.cells.pseudobulk.reliability import spearman_brown
from stateshift.cells.pseudobulk.table import PER_GENE, PER_ROW, EffectTable
from stateshift.errors import StateshiftError, some
from stateshift.files import plain_strings, reserve_room, written_beside

if TYPE_CHECKING:
    from anndata import AnnData

CONTROL_MEANS = "control_means"
HOW = (
    "X: mean of the perturbed cells minus mean of their controls, matched by file, context and batch; "
    "standard_error: of X; shrunk: X drawn to zero by empirical Bayes; log2_fold_change: of linear means, 0.01 added "
    "to both; reliability: correlation of the effects of two random halves of the cells."
)


def effects_to_anndata(table: EffectTable) -> AnnData:
    """An effect table as AnnData, one observation a perturbation in a context.

    Parameters
    ----------
    table
        The effects; what it doesn't know is left out.

    Returns
    -------
    AnnData
        ``X`` (R, G) float32 the effects, NaN where unmeasured; ``layers``: ``log2_fold_change``,
        ``standard_error``, ``shrunk``; ``obs``: ``perturbation``, ``context``, ``n_cells``, ``n_controls``,
        ``n_unmatched`` (perturbed cells without controls in their batch), ``reliability`` (of halves) and
        ``reliability_spearman_brown`` (of all cells); ``varm["control_means"]`` (G, C) float32, its columns
        named by ``uns["stateshift"]["control_contexts"]``; ``uns["stateshift"]``: ``kind`` (``effects``),
        ``scale``, ``version``, ``how``, and ``simulated`` (true) where the cells were.
    """
    from anndata import AnnData

    obs = pd.DataFrame({"perturbation": table.perturbations, "context": table.contexts}, dtype="category")
    obs.index = [f"{c}/{p}" for c, p in zip(table.contexts, table.perturbations)]
    for name in PER_ROW:
        if getattr(table, name) is not None:
            obs[name] = getattr(table, name)
    if table.reliability is not None:
        obs["reliability_spearman_brown"] = spearman_brown(table.reliability)
    layers = {n: getattr(table, n) for n in PER_GENE[1:] if getattr(table, n) is not None}
    about: dict[str, Any] = {"kind": "effects", "scale": table.scale, "version": __version__}
    if table.n_cells is not None:
        about["how"] = HOW
    if table.simulated:
        about["simulated"] = True
    adata = AnnData(
        np.asarray(table.effects, dtype=np.float32), obs=obs, var=pd.DataFrame(index=table.genes), layers=layers
    )
    if table.control_means:
        adata.varm[CONTROL_MEANS] = np.stack(list(table.control_means.values()), axis=1).astype(np.float32)
        about["control_contexts"] = np.array(list(table.control_means), dtype=object)
    adata.uns["stateshift"] = about
    adata.obs_names_make_unique()
    return adata


def write_effects(table: EffectTable, path: str | Path, overwrite: bool = False) -> Path:
    """Write an effect table as h5ad (`effects_to_anndata`).

    Raises
    ------
    StateshiftError
        The name doesn't end in .h5ad, or the file exists and may not be replaced.
    """
    path = Path(path)
    refuse_other_suffix(path)
    adata = effects_to_anndata(table)
    with written_beside(path, overwrite) as part, plain_strings():
        reserve_room(part, adata.X.nbytes * (1 + len(adata.layers)) + 2**20)
        adata.write_h5ad(part)
    return path


def refuse_other_suffix(path: Path) -> None:
    """Effects are written as .h5ad."""
    if path.suffix != ".h5ad":
        raise StateshiftError(f"{path}: effects are written as .h5ad, name {path.with_suffix('.h5ad').name}.")


def read_effects_h5ad(path: Path, columns: Mapping[str, str], in_context: str, scale: str | None) -> EffectTable:
    """Effects of an h5ad file or zarr store, ours or another's; `read_effects` says how it is read."""
    from anndata.io import read_elem

    with opened(path) as group:
        obs, var = read_table(group, "obs"), read_table(group, "var")
        effects = _dense(whole_matrix(group["X"], str(path)))
        stored = group.get("layers", {})
        layers = {n: _dense(whole_matrix(stored[n], str(path))) for n in PER_GENE[1:] if n in stored}
        about = read_elem(group["uns/stateshift"]) if "uns/stateshift" in group else {}
        has_means = CONTROL_MEANS in group.get("varm", {}) and "control_contexts" in about
        means = read_elem(group["varm"][CONTROL_MEANS]).T if has_means else []
    roles = find_roles(list(obs.columns), columns, ("perturbation", "context"), f"{path}: obs")
    if np.isinf(effects).any():
        raise StateshiftError(f"{path}: X holds infinite values: put NaN where a gene was not measured.")
    for column in roles.values():
        blank = (obs[column].isna() | (obs[column].astype(str).str.strip() == "")).to_numpy()
        if blank.any():
            raise StateshiftError(
                f"{path}: obs `{column}` is empty in {blank.sum():,} rows (first: {obs.index[blank][0]})."
            )
    genes, perturbations = [str(g) for g in var.index], obs[roles["perturbation"]].astype(str).tolist()
    refuse_repeats(genes, str(path))
    contexts = obs[roles["context"]].astype(str).tolist() if "context" in roles else [in_context] * len(obs)
    pairs = pd.Series(zip(contexts, perturbations), dtype=object)
    if pairs.duplicated().any():
        twice = [f"{p} in {c}" for c, p in pairs[pairs.duplicated()].unique()]
        raise StateshiftError(
            f"{path} holds {some(twice, 4)} more than once: one row a perturbation and context is needed. If these "
            "are cells, estimate their effects (stateshift effects estimate)."
        )
    per_row = {n: obs[n].to_numpy() for n in PER_ROW if n in obs and pd.api.types.is_numeric_dtype(obs[n])}
    return EffectTable(
        genes,
        perturbations,
        contexts,
        effects,
        per_row.pop("n_cells", None),
        dict(zip(map(str, about.get("control_contexts", ())), means)),
        **layers,
        **per_row,
        scale=scale or str(about.get("scale", "")),
        simulated=bool(about.get("simulated", False)),
    )


def _dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float32)
