import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from stateshift.cells import Cells, Expression, Storage, estimate_effects, read_cells
from stateshift.cells.pseudobulk import moments
from stateshift.cells.simulate import simulate_experiment, true_effects
from stateshift.errors import StateshiftError

CONTROLS = (("f", "c", "ctrl", "1", 1.0), ("f", "c", "ctrl", "1", 3.0))
PER_GENE = ("effects", "standard_error", "log2_fold_change", "shrunk")


def random_cells(n: int = 400, n_genes: int = 7, seed: int = 0) -> Cells:
    """Sparse cells of two files, two contexts, three perturbations and four batches; batch 3 holds no control."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "dataset": "d",
            "file": rng.choice(["f", "h"], n),
            "context": rng.choice(["x", "y"], n),
            "perturbation": rng.choice(["ctrl", "ctrl", "A", "B", "C"], n),
            "batch": rng.choice(["0", "1", "2", "3"], n, p=[0.5, 0.3, 0.15, 0.05]),
        }
    )
    obs.loc[(obs["batch"] == "3") & (obs["perturbation"] == "ctrl"), "perturbation"] = "A"
    X = (
        np.where(rng.random((n, n_genes)) < 0.4, 0, rng.gamma(2, 1, (n, n_genes)))
        + obs["batch"].astype(int).to_numpy()[:, None]
    )
    return Cells(Expression([X[:150], X[150:]]), obs, [f"g{i}" for i in range(n_genes)], "ctrl", "log1p_1e4")


def matched_controls(cells: Cells, i: int) -> np.ndarray:
    """Rows of the controls of a cell's file, context and batch, or of its file and context."""
    obs = cells.obs
    place = cells.is_control & (obs[["file", "context"]] == obs.loc[i, ["file", "context"]]).all(axis=1)
    batch = place & (obs["batch"] == obs.loc[i, "batch"])
    return np.flatnonzero(batch if batch.any() else place)


def test_controls_are_matched_by_batch_and_weighted_by_perturbed_cells(by_hand):
    table = estimate_effects(
        by_hand(
            *CONTROLS,
            ("f", "c", "ctrl", "2", 6.0),
            ("f", "c", "A", "1", 5.0),
            ("f", "c", "A", "1", 7.0),
            ("f", "c", "A", "2", 9.0),
        )
    )
    # batch 1: mean 6 − control 2, two cells; batch 2: 9 − 6, one cell
    assert table.effects[0, 0] == pytest.approx((2 * 4 + 3) / 3)
    assert table.n_cells.tolist() == [3]
    assert table.n_controls.tolist() == [3]
    assert table.control_means["c"][0] == pytest.approx(10 / 3)


def test_a_batch_without_controls_takes_those_of_its_file_and_context(by_hand):
    table = estimate_effects(
        by_hand(
            ("f", "c", "ctrl", "1", 1.0),
            ("f", "c", "ctrl", "2", 2.0),
            ("f", "c", "A", "3", 4.0),
            ("f", "c", "A", "1", 4.0),
        )
    )
    # batch 3 against 1.5, batch 1 against 1
    assert table.effects[0, 0] == pytest.approx((2.5 + 3) / 2)
    assert (table.n_unmatched.tolist(), table.n_controls.tolist()) == ([1], [2])


def test_controls_of_another_file_are_not_used(by_hand):
    cells = by_hand(("f", "c", "ctrl", "1", 1.0), ("h", "c", "A", "1", 4.0))
    with pytest.raises(StateshiftError, match="h: context `c` has perturbed cells and no control cells"):
        estimate_effects(cells)


def test_controls_of_batches_without_perturbed_cells_are_not_counted(by_hand):
    cells = by_hand(*CONTROLS, ("f", "c", "ctrl", "2", 6.0), ("f", "c", "A", "2", 9.0))
    table = estimate_effects(cells)
    assert (table.n_controls.tolist(), table.effects.tolist()) == ([1], [[3.0]])


def test_the_standard_error_of_two_batches_worked_out_by_hand(by_hand):
    table = estimate_effects(
        by_hand(
            *CONTROLS,
            ("f", "c", "ctrl", "2", 6.0),
            ("f", "c", "ctrl", "2", 10.0),
            ("f", "c", "A", "1", 5.0),
            ("f", "c", "A", "1", 7.0),
            ("f", "c", "A", "2", 9.0),
            ("f", "c", "A", "2", 13.0),
        )
    )
    # perturbed: squares within batches 2 + 8 over 4 − 2; controls: variances 2 and 8 of two cells each, half weight
    assert table.standard_error[0, 0] ** 2 == pytest.approx(5 / 4 + 0.25 * 2 / 2 + 0.25 * 8 / 2)


def test_a_lone_cell_borrows_the_variance_of_its_controls(by_hand):
    table = estimate_effects(by_hand(*CONTROLS, ("f", "c", "A", "1", 5.0)))
    assert table.standard_error[0, 0] ** 2 == pytest.approx(2 / 1 + 2 / 2)


def test_a_lone_control_of_a_batch_has_the_variance_within_the_other_batches(by_hand):
    in_two = (("f", "c", "A", "2", 8.0), ("f", "c", "A", "2", 10.0))
    table = estimate_effects(by_hand(*CONTROLS, ("f", "c", "ctrl", "2", 6.0), *in_two))
    assert table.standard_error[0, 0] ** 2 == pytest.approx(2 / 2 + 2 / 1)


def test_controls_that_are_all_alone_in_their_batch_vary_about_their_mean(by_hand):
    lone = (("f", "c", "ctrl", "1", 1.0), ("f", "c", "ctrl", "2", 3.0))
    table = estimate_effects(by_hand(*lone, ("f", "c", "A", "1", 5.0), ("f", "c", "A", "1", 7.0)))
    assert table.standard_error[0, 0] ** 2 == pytest.approx(2 / 2 + 2 / 1)


def test_a_single_control_tells_no_standard_error(by_hand):
    table = estimate_effects(by_hand(CONTROLS[0], ("f", "c", "A", "1", 5.0), ("f", "c", "A", "1", 7.0)))
    assert table.effects.tolist() == [[5.0]]
    assert np.isnan([table.standard_error[0, 0], table.shrunk[0, 0], table.reliability[0]]).all()


def test_fold_changes_are_of_linear_means(by_hand):
    linear = {"ctrl": (1.0, 3.0), "A": (7.0, 9.0)}
    rows = [("f", "c", p, "1", np.log1p(v)) for p, values in linear.items() for v in values]
    table = estimate_effects(by_hand(*rows))
    assert table.log2_fold_change[0, 0] == pytest.approx(np.log2(8.01 / 2.01), rel=1e-6)
    assert estimate_effects(by_hand(*rows, scale="embedding")).log2_fold_change is None


def test_effects_and_errors_equal_a_sum_over_single_cells():
    cells = random_cells()
    table = estimate_effects(cells)
    X, obs = cells.X.dense(np.arange(len(cells))).astype(float), cells.obs
    stratum = obs[["context", "file", "batch"]].agg("/".join, axis=1)
    assert len(table) == 6
    for r, (context, p) in enumerate(zip(table.contexts, table.perturbations)):
        rows = np.flatnonzero((obs["context"] == context) & (obs["perturbation"] == p))
        weight = np.zeros(len(cells))
        for i in rows:
            mine = matched_controls(cells, i)
            weight[mine] += 1 / len(mine) / len(rows)
        np.testing.assert_allclose(table.effects[r], X[rows].mean(axis=0) - weight @ X, atol=1e-6)
        linear = np.expm1(X[rows]).mean(axis=0) + 0.01, weight @ np.expm1(X) + 0.01
        np.testing.assert_allclose(table.log2_fold_change[r], np.log2(linear[0] / linear[1]), atol=1e-5)

        frame = pd.DataFrame(X)
        within = (frame.iloc[rows] - frame.iloc[rows].groupby(stratum.iloc[rows]).transform("mean")) ** 2
        s2 = within.sum() / (len(rows) - stratum.iloc[rows].nunique())
        used = np.flatnonzero(weight)
        of_control = frame.iloc[used].groupby(stratum.iloc[used]).transform("var")
        assert stratum.iloc[used].value_counts().min() > 1
        error = np.sqrt(s2 / len(rows) + (of_control * weight[used][:, None] ** 2).sum())
        np.testing.assert_allclose(table.standard_error[r], error, rtol=1e-5)
        assert table.n_controls[r] == len(used)
        assert table.n_unmatched[r] == (obs["batch"].iloc[rows] == "3").sum()


def test_the_error_covers_known_effects_in_nineteen_of_twenty():
    rng = np.random.default_rng(3)
    n, G = 120, 4000
    obs = pd.DataFrame({"dataset": "d", "file": "f", "context": "c", "perturbation": "ctrl"}, index=range(n))
    obs["batch"] = rng.choice(["0", "1", "2"], n)
    obs.loc[:49, "perturbation"] = "A"
    truth = rng.normal(size=G)
    batch = rng.normal(size=(3, G))[obs["batch"].astype(int).to_numpy()]
    X = batch + np.where((obs["perturbation"] == "A").to_numpy()[:, None], truth, 0) + rng.normal(size=(n, G))
    table = estimate_effects(Cells(Expression([X]), obs, [str(g) for g in range(G)], "ctrl", "embedding"))
    covered = np.abs(table.effects[0] - truth) < 1.98 * table.standard_error[0]
    assert 0.935 < covered.mean() < 0.965


def test_nothing_depends_on_how_many_rows_are_read_at_once(monkeypatch):
    whole = estimate_effects(random_cells())
    monkeypatch.setattr(moments, "ROWS_AT_ONCE", 7)
    pieces = estimate_effects(random_cells())
    for name in (*PER_GENE, "reliability"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-5, atol=1e-7)


def test_mapped_cells_give_the_same_table_as_cells_in_memory(screen, tmp_path):
    mapped = read_cells(screen.cells, storage=Storage(memory_gb=0, cache=tmp_path / "cache"))
    assert any((tmp_path / "cache").iterdir())
    there, here = estimate_effects(mapped), estimate_effects(read_cells(screen.cells))
    for name in (*PER_GENE, "reliability"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_only_the_cells_of_a_split_are_used_and_all_controls():
    cells = random_cells()
    keep = (np.arange(len(cells)) % 3 == 0) & (cells.obs["context"] == "x").to_numpy()
    table = estimate_effects(cells, keep)
    assert set(table.contexts) == {"x"}
    assert table.n_cells.sum() == (keep & ~cells.is_control).sum()
    for context in "xy":
        controls = cells.is_control & (cells.obs["context"] == context).to_numpy()
        np.testing.assert_allclose(table.control_means[context], cells.X.mean(controls), rtol=1e-6)


def test_no_perturbed_cell_gives_no_row(by_hand):
    table = estimate_effects(by_hand(*CONTROLS))
    assert len(table) == 0
    assert table.effects.shape == (0, 1)
    assert table.control_means["c"].tolist() == [2.0]


def test_known_effects_of_the_made_screen_are_found(screen):
    table = estimate_effects(read_cells(screen.cells))
    for p, effect in zip(table.perturbations, table.effects):
        np.testing.assert_allclose(effect, screen.effects[p], atol=0.25)
    assert len(table) == 15


def test_fold_changes_of_simulated_counts_are_those_they_were_made_with(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=2, targets=4, cells=4000, genes=200, batches=2)
    table = estimate_effects(read_cells(tmp_path / "sim.h5ad"))
    truth = true_effects(tmp_path / "sim.h5ad")
    assert table.simulated
    slopes = []
    for context, p, fold in zip(table.contexts, table.perturbations, table.log2_fold_change):
        known = truth[(truth.obs["context"] == context) & (truth.obs["perturbation"] == p)].X[0] / np.log(2)
        expressed = table.control_means[context] > 1
        assert expressed.sum() > 40
        assert np.corrcoef(fold[expressed], known[expressed])[0, 1] > 0.8
        slopes.append(np.polyfit(known[expressed], fold[expressed], 1)[0])
    assert np.mean(slopes) == pytest.approx(1, abs=0.04)


def test_real_effects_without_batches_are_welchs_and_scanpys(shared_data):
    import scanpy

    path = shared_data / "cells" / "norman_mcfaline_5961x500.h5ad"
    table, stored = estimate_effects(read_cells(path)), ad.read_h5ad(path)
    means = scanpy.get.aggregate(stored, by=["cell_type", "perturbation"], func="mean")
    means = pd.DataFrame(means.layers["mean"], index=pd.MultiIndex.from_frame(means.obs[["cell_type", "perturbation"]]))
    assert len(table) == 60
    for context, p, effect, error in zip(table.contexts, table.perturbations, table.effects, table.standard_error):
        np.testing.assert_allclose(effect, means.loc[context, p] - means.loc[context, "control"], atol=1e-5)
        X = stored[stored.obs["cell_type"] == context]
        groups = (X[X.obs["perturbation"] == name].X.toarray().astype(float) for name in (p, "control"))
        varies = error > 1e-3
        assert varies.sum() > 100
        with np.errstate(all="ignore"):
            t = ttest_ind(*groups, equal_var=False).statistic
        np.testing.assert_allclose(effect[varies] / error[varies], t[varies], rtol=2e-3, atol=1e-4)


def test_donors_that_are_either_control_or_stimulated_leave_all_cells_unmatched(shared_data):
    path = shared_data / "cells" / "kang_ifnb_1556x1267.h5ad"
    columns = {"perturbation": "group_id", "cell_type": "cluster_id", "control": "ctrl"}
    plain = estimate_effects(read_cells(path, columns))
    by_donor = estimate_effects(read_cells(path, {**columns, "batch": "sample_id"}))
    assert plain.n_unmatched.tolist() == [0] * 5
    assert by_donor.n_unmatched.tolist() == by_donor.n_cells.tolist() == plain.n_cells.tolist()
    np.testing.assert_allclose(by_donor.effects, plain.effects, atol=1e-5)


def test_a_file_of_one_control_leaves_the_errors_of_other_files_alone(by_hand):
    rng = np.random.default_rng(0)
    rows = [("f", "c", "ctrl", "1", x) for x in rng.normal(3, 1, 20)] + [
        ("f", "c", "A", "1", x) for x in rng.normal(4, 1, 15)
    ]
    alone = estimate_effects(by_hand(*rows))
    more = [("h", "c", "ctrl", "1", 2.0)] + [("h", "c", "B", "1", x) for x in rng.normal(4, 1, 15)]
    both = estimate_effects(by_hand(*rows, *more))
    assert both.standard_error[both.perturbations.index("A"), 0] == pytest.approx(alone.standard_error[0, 0])
    assert np.isnan(both.standard_error[both.perturbations.index("B"), 0])


def test_halves_are_dealt_among_the_cells_that_are_kept():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, (60, 5))
    obs = pd.DataFrame(
        {"file": "f", "context": "c", "perturbation": ["ctrl"] * 30 + ["A"] * 30, "batch": "1", "dataset": "d"}
    )
    cells = Cells(Expression([values]), obs, list("vwxyz"), "ctrl", "log1p")
    for seed in range(20):
        keep = np.isin(np.arange(60), 30 + np.random.default_rng(seed).choice(30, 10, replace=False))
        assert np.isfinite(estimate_effects(cells, keep, seed=0).reliability[0])
