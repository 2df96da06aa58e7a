"""A simulated CRISPRi screen on real control cells, with known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift.cells.columns import CONTROL
from stateshift.errors import StateshiftError, suggestion

if TYPE_CHECKING:
    from anndata import AnnData

DETECTED_SHARE = 0.1
KNOCK_DOWN_LOG_CHANGE = float(np.log(0.2))
PROGRAMS, PROGRAM_SHARE = 6, 0.15
FAMILY_SIZE_OF_EFFECT, GENE_SIZE_OF_EFFECT, CONTEXT_SPREAD = 0.8, 0.3, 0.25


def simulate_screen(
    controls: AnnData,
    *,
    cell_type: str = "cell_type",
    n_families: int = 8,
    family_size: int = 8,
    cells_per_group: int = 32,
    controls_per_context: int = 200,
    seed: int = 0,
) -> AnnData:
    """Resample real control cells and lay simulated CRISPRi effects on them.

    The perturbed genes are drawn among those measured and belong to simulated protein families
    (`simulate_proteins`). In context c, perturbation p changes gene g by the natural-log factor

        λ(p, c, g) = Σ_k [m_k + 0.8·a(family of p, k) + 0.3·b(p, k)] · s(c, k) · w(k, g)

    over 6 programs k: sparse loadings w (15 % of genes each, standard normal), a response m common
    to all perturbations, family and gene-specific parts a and b (standard normal, divided by √6), and
    a context's strength s = exp(0.25·N(0, 1)). The target itself falls to a fifth. A cell's log1p value
    becomes log1p(expm1(x)·exp(λ)): zeros stay zero, so that a gene responds as far as it is expressed.
    All noise is that of drawing real cells, with replacement, anew for each group and for the controls.

    Parameters
    ----------
    controls
        Cells on a log1p scale that ``uns["stateshift"]["scale"]`` declares. Reads ``X``, ``var_names``
        and ``obs[cell_type]``.
    cell_type
        The obs column of contexts.
    n_families, family_size
        Protein families, and perturbed genes in each.
    cells_per_group, controls_per_context
        Cells drawn a (perturbation, context), and control cells a context.
    seed
        Of everything drawn.

    Returns
    -------
    AnnData
        ``obs["target_gene"]``, ``obs["cell_type"]``, ``obs["source_cell"]``;
        ``uns["stateshift"]``: ``simulated`` (true), ``scale``, ``control``, ``seed``;
        ``uns["simulation"]``: ``perturbations`` and ``contexts`` (R,), their exact ``effects`` (R, G) (mean
        shift of the context's control cells, log1p), and ``genes`` and ``families`` (P,).

    Raises
    ------
    StateshiftError
        There is no cell, the scale is not declared, the column is absent, or too few genes are detected to perturb.
    """
    import anndata

    X, scale = _checked(controls, cell_type)
    rng = np.random.default_rng(seed)
    names = np.array(controls.var_names, dtype=str)
    labels = controls.obs[cell_type].astype(str).to_numpy()
    contexts = sorted(set(labels))
    genes = _genes_to_perturb(X, names, n_families * family_size, rng)
    family = np.repeat(np.arange(n_families), family_size)
    changes = _log_changes(genes, family, contexts, names, rng)

    blocks: list[csr_matrix] = []
    frames: list[pd.DataFrame] = []
    pairs: list[tuple[str, str]] = []
    effects: list[np.ndarray] = []
    for c, context in enumerate(contexts):
        pool = np.flatnonzero(labels == context)
        drawn = rng.choice(pool, controls_per_context)
        blocks.append(X[drawn])
        frames.append(_obs(CONTROL[0], context, controls.obs_names[drawn]))
        for p, gene in enumerate(genes):
            drawn = rng.choice(pool, cells_per_group)
            blocks.append(shifted(X[drawn], changes[p, c]))
            frames.append(_obs(gene, context, controls.obs_names[drawn]))
            effect = shifted(X[pool], changes[p, c]).mean(axis=0) - X[pool].mean(axis=0)
            effects.append(np.asarray(effect, dtype=np.float32).ravel())
            pairs.append((gene, context))
    screen = anndata.AnnData(vstack(blocks, format="csr"), var=pd.DataFrame(index=names))
    screen.obs = (
        pd.concat(frames, ignore_index=True)
        .astype("category")
        .set_index(pd.Index([f"simulated_{i}" for i in range(len(screen))]))
    )
    screen.uns["stateshift"] = {"simulated": True, "scale": scale, "control": CONTROL[0], "seed": seed}
    screen.uns["simulation"] = {
        "perturbations": np.array([p for p, _ in pairs]),
        "contexts": np.array([c for _, c in pairs]),
        "effects": np.stack(effects),
        "genes": np.array(genes),
        "families": family,
    }
    return screen


def shifted(X: csr_matrix, log_change: np.ndarray) -> csr_matrix:
    """Cells (S, G), log1p, with each gene's linear expression times exp(log_change); zeros stay zero.

    Examples
    --------
    >>> x = csr_matrix(np.log1p([[0.0, 4.0]]))
    >>> np.expm1(shifted(x, np.log([0.5, 0.5])).toarray()).round(6)
    array([[0., 2.]], dtype=float32)
    """
    moved = X.astype(np.float64)
    moved.data = np.log1p(np.expm1(moved.data) * np.exp(log_change[moved.indices]))
    return moved.astype(np.float32)


def _checked(controls: AnnData, cell_type: str) -> tuple[csr_matrix, str]:
    scale = dict(controls.uns.get("stateshift", {})).get("scale")
    if scale not in ("log1p", "log1p_1e4"):
        raise StateshiftError(
            "The simulator needs log-normalised control cells that say so: set "
            'adata.uns["stateshift"] = {"scale": "log1p"} (or "log1p_1e4").'
        )
    if not controls.n_obs:
        raise StateshiftError("There are no control cells to simulate on.")
    if cell_type not in controls.obs:
        raise StateshiftError(f"obs has no column `{cell_type}`{suggestion(cell_type, controls.obs.columns)}.")
    return csr_matrix(controls.X, dtype=np.float32), scale


def _genes_to_perturb(X: csr_matrix, names: np.ndarray, wanted: int, rng: np.random.Generator) -> list[str]:
    detected = np.asarray((X > 0).mean(axis=0)).ravel() >= DETECTED_SHARE
    candidates = np.sort(names[detected])
    if len(candidates) < wanted:
        raise StateshiftError(
            f"{wanted} genes are to be perturbed and {len(candidates)} of {len(names)} are detected in "
            f"{DETECTED_SHARE:.0%} of the cells: ask for fewer families or smaller ones."
        )
    return [str(g) for g in rng.choice(candidates, wanted, replace=False)]


def _log_changes(
    genes: list[str],
    family: np.ndarray,
    contexts: list[str],
    names: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """λ of `simulate_screen`, (P, C, G)."""
    G, n_families = len(names), family.max() + 1
    loadings = rng.normal(size=(PROGRAMS, G)) * (rng.random((PROGRAMS, G)) < PROGRAM_SHARE)
    common, of_family, of_gene = (
        rng.normal(size=(n, PROGRAMS)) / np.sqrt(PROGRAMS) for n in (1, n_families, len(genes))
    )
    strength = np.exp(CONTEXT_SPREAD * rng.normal(size=(len(contexts), PROGRAMS)))
    activity = common + FAMILY_SIZE_OF_EFFECT * of_family[family] + GENE_SIZE_OF_EFFECT * of_gene
    changes = np.einsum("pk,ck,kg->pcg", activity, strength, loadings)
    own = pd.Index(names).get_indexer(genes)
    changes[np.arange(len(genes)), :, own] = KNOCK_DOWN_LOG_CHANGE
    return changes


def _obs(perturbation: str, context: str, source_cells: pd.Index) -> pd.DataFrame:
    return pd.DataFrame({"target_gene": perturbation, "cell_type": context, "source_cell": source_cells.to_numpy()})
