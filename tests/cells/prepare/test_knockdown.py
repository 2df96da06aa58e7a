import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells.prepare.knockdown import PERTURBATIONS_AT_ONCE, filter_knockdown


def many_perturbations(seed: int) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """More perturbations than one block takes, of every strength, some in few cells, some not measured."""
    rng = np.random.default_rng(seed)
    n_targets, n_controls = 2 * PERTURBATIONS_AT_ONCE + 30, 200
    genes = np.array([f"G{i}" for i in range(n_targets + 20)], dtype=object)
    mean = rng.gamma(1.0, 3.0, len(genes)) * (rng.random(len(genes)) > 0.05)
    blocks, names = [rng.poisson(mean, (n_controls, len(genes)))], ["non-targeting"] * n_controls
    for i in range(n_targets):
        n = rng.integers(1, 30)
        of_cells = np.tile(mean, (n, 1))
        of_cells[:, i] *= rng.choice([0.0, 0.1, 0.3, 0.6, 1.0])
        blocks.append(rng.poisson(of_cells))
        names += [f"G{i}" if i % 20 else f"absent{i}"] * n
    order = rng.permutation(len(names))
    return csr_matrix(np.concatenate(blocks).astype(np.float32))[order], genes, np.array(names, dtype=object)[order]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limits", [{}, {"residual_expression": 0.5, "cell_residual_expression": 0.7, "min_cells": 5}])
def test_the_cells_kept_are_cell_loads_cell_for_cell(seed, limits):
    from cell_load.utils.data_utils import filter_on_target_knockdown

    X, genes, perturbation = many_perturbations(seed)
    limits = {"min_cells": 10, **limits}
    adata = ad.AnnData(X, obs=pd.DataFrame({"gene": perturbation}, index=np.arange(len(perturbation)).astype(str)))
    adata.var["gene_name"] = genes
    theirs = filter_on_target_knockdown(adata, **limits).obs_names.astype(int).to_numpy()
    ours = filter_knockdown(X, genes, perturbation, "non-targeting", **limits)
    assert np.flatnonzero(ours.keep).tolist() == theirs.tolist()
    assert 200 < len(theirs) < len(perturbation) - 200
    left = set(perturbation[ours.keep]) - {"non-targeting"}
    measured = set(perturbation) & set(genes)
    assert set(ours.weak) == measured - left
    assert set(ours.unmeasured) == set(perturbation) - measured - {"non-targeting"}


def test_a_double_stays_where_both_of_its_targets_are_knocked_down():
    X = csr_matrix(
        np.array(
            [[10, 10, 5], [10, 10, 5], [0, 1, 5], [1, 6, 5], [0, 0, 5], [9, 0, 5], [0, 1, 5], [0, 9, 5]], np.float32
        )
    )
    names = np.array(["control", "control", "A+B", "A+B", "A+B", "A+B", "A", "A"], dtype=object)
    kept = filter_knockdown(X, np.array(["A", "B", "C"]), names, "control", min_cells=1)
    assert kept.keep.tolist() == [True, True, True, False, True, False, True, True]
    kept = filter_knockdown(X, np.array(["A", "B", "C"]), names, "control", min_cells=3)
    assert kept.keep.tolist() == [True, True] + [False] * 6
    assert kept.weak == ["A", "A+B"]


def test_a_double_with_a_target_that_is_not_measured_goes_and_is_named():
    names = np.array(["control", "A+Z", "A"], dtype=object)
    kept = filter_knockdown(csr_matrix([[9.0], [0.0], [0.0]]), np.array(["A"]), names, "control", min_cells=1)
    assert kept.keep.tolist() == [True, False, True]
    assert (kept.unmeasured, kept.weak) == (["A+Z"], [])


def test_cells_that_are_out_already_count_for_nothing():
    names = np.array(["control", None, "A", None], dtype=object)
    X = csr_matrix([[8.0], [0.0], [3.0], [0.0]])
    kept = filter_knockdown(X, np.array(["A"]), names, "control", min_cells=1)
    assert kept.keep.tolist() == [True, False, False, False]
