"""The perturbed gene's own column: kept from the models, and given what perturbing does to it."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.own_target import fit_own_target, set_apart


def knock_downs(left: float = 0.2, contexts: str = "xy") -> EffectTable:
    """Each of four genes falls to a share of its control mean where it is perturbed; other genes stay at 0.1."""
    genes = ["A", "B", "C", "D", "other"]
    controls = {c: np.array([1.0, 2.0, 0.5, 3.0, 1.0], dtype=np.float32) * (k + 1) for k, c in enumerate(contexts)}
    pairs = [(g, c) for g in genes[:4] for c in contexts]
    effects = np.full((len(pairs), 5), 0.1, dtype=np.float32)
    for i, (g, c) in enumerate(pairs):
        effects[i, genes.index(g)] = (left - 1) * controls[c][genes.index(g)]
    return EffectTable(genes, [g for g, _ in pairs], [c for _, c in pairs], effects, None, controls)


def test_a_new_targets_column_is_the_median_share_left_of_its_control_mean():
    train = knock_downs()
    own = fit_own_target(train.rows(np.array([p != "D" for p in train.perturbations])))
    effects = np.zeros((2, 5), dtype=np.float32)
    own.put(effects, ["D", "A+D"], ["x", "y"])
    assert own.share
    assert effects[0] == pytest.approx([0, 0, 0, -0.8 * 3, 0])
    assert effects[1] == pytest.approx([-0.8 * 2, 0, 0, -0.8 * 6, 0])


def test_a_gene_seen_in_another_context_keeps_its_own_share():
    train = knock_downs()
    train.effects[train.perturbations.index("B"), 1] = -0.1 * 2  # of B in x nine tenths are left
    own = fit_own_target(
        train.rows(np.array([pair != ("B", "y") for pair in zip(train.perturbations, train.contexts)]))
    )
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["B"], ["y"])
    assert effects[0, 1] == pytest.approx(-0.1 * 4)


def test_a_gene_next_to_silent_where_it_was_perturbed_has_the_share_of_the_others():
    train = knock_downs()
    train.control_means["x"][1] = 0.06
    train.effects[train.perturbations.index("B"), 1] = 0.05  # noise, as a share 1.8
    own = fit_own_target(
        train.rows(np.array([pair != ("B", "y") for pair in zip(train.perturbations, train.contexts)]))
    )
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["B"], ["y"])
    assert own.share
    assert effects[0, 1] == pytest.approx(-0.8 * 4)


def test_rows_tell_of_a_genes_share_by_how_much_of_it_is_expressed_there():
    train = knock_downs()
    train.control_means["x"][1], train.control_means["y"][1] = 0.1, 4.0
    b = train.perturbations.index("B")
    train.effects[b, 1], train.effects[b + 1, 1] = 0.1, -3.2
    own = fit_own_target(train)
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["B"], ["never seen"])
    assert effects[0, 1] == pytest.approx((0.1 - 3.2) / (0.1 + 4) * (0.1 + 4) / 2)


def test_an_activation_is_told_as_an_effect_and_no_share():
    train = knock_downs()
    for i, p in enumerate(train.perturbations):
        train.effects[i, train.genes.index(p)] = 1.5
    own = fit_own_target(train)
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["other"], ["x"])
    assert not own.share
    assert effects[0, 4] == pytest.approx(1.5)


def test_without_control_means_the_effect_itself_is_carried_over():
    train = knock_downs()
    train.control_means = {}
    effects = np.zeros((1, 5), dtype=np.float32)
    fit_own_target(train).put(effects, ["other"], ["nowhere"])
    assert effects[0, 4] == pytest.approx(np.median([-0.8, -1.6, -0.4, -2.4, -1.6, -3.2, -0.8, -4.8]))


def test_a_screen_whose_targets_are_not_measured_has_nothing_to_put():
    train = knock_downs()
    train.genes = ["v", "w", "x", "y", "z"]
    effects = np.ones((1, 5), dtype=np.float32)
    fit_own_target(train).put(effects, ["A"], ["x"])
    assert (effects == 1).all()
    assert set_apart(train) is train


def test_models_see_in_the_own_column_what_other_perturbations_do_there():
    train = knock_downs()
    train.effects[train.perturbations.index("B"), 0] = 0.7  # B in x moves A
    apart = set_apart(train)
    row = train.perturbations.index("A")
    assert apart.effects[row, 0] == pytest.approx((0.7 + 0.1 + 0.1) / 3)
    assert apart.effects[row, 1:] == pytest.approx(train.effects[row, 1:])
    assert train.effects[row, 0] == pytest.approx(-0.8)  # the table itself is as it was


def test_one_target_alone_is_taken_as_not_moving_itself():
    train = knock_downs()
    apart = set_apart(train.rows(np.array(train.perturbations) == "A"))
    assert apart.effects[:, 0].tolist() == [0, 0]


def test_a_context_in_which_knock_downs_leave_more_leaves_more_of_a_new_target():
    train = knock_downs(contexts="xyz")
    share = {"x": 0.2, "y": 0.6, "z": 0.3}
    for i, (p, c) in enumerate(zip(train.perturbations, train.contexts)):
        train.effects[i, train.genes.index(p)] = (share[c] - 1) * train.control_means[c][train.genes.index(p)]
    own = fit_own_target(train)
    effects = np.zeros((3, 5), dtype=np.float32)
    own.put(effects, ["other"] * 3, ["x", "y", "never seen"])
    # the control mean of a context never seen is that of the others: 1, 2 and 3
    assert effects[:, 4] == pytest.approx([-0.8 * 1, -0.4 * 2, -0.7 * 2])


def test_one_knock_down_alone_is_told_as_the_share_that_it_leaves():
    train = knock_downs(contexts="x")
    own = fit_own_target(train.rows(np.array(train.perturbations) == "B"))
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["D"], ["x"])
    assert own.share
    assert effects[0, 3] == pytest.approx(-0.8 * 3)


@pytest.mark.parametrize(("control", "left"), [(0.04, 0.2), (0.2, 0.2), (0.3, 1.5)])
def test_a_gene_has_a_share_of_its_own_from_a_quarter_of_expression_on(control, left):
    train = knock_downs(contexts="x")
    train.control_means["x"][1] = control
    train.effects[train.perturbations.index("B"), 1] = 0.5 * control  # half more, in place of a fifth of it
    own = fit_own_target(train)
    train.control_means["x"][1] = 2.0
    effects = np.zeros((1, 5), dtype=np.float32)
    own.put(effects, ["B"], ["x"])
    assert effects[0, 1] == pytest.approx((left - 1) * 2.0)


@pytest.mark.parametrize(("control", "overall"), [(0.04, 0.35), (0.06, 0.7)])
def test_genes_that_are_not_expressed_say_nothing_of_the_share(control, overall):
    train = knock_downs(contexts="x")
    train.control_means["x"][[1, 2]] = control
    own = {"A": -0.8, "B": -0.1 * control, "C": -0.1 * control, "D": -1.5}  # left: 0.2, 0.9, 0.9 and 0.5
    for gene, effect in own.items():
        train.effects[train.perturbations.index(gene), train.genes.index(gene)] = effect
    assert fit_own_target(train).overall == pytest.approx(overall)


def test_a_target_that_was_not_measured_says_nothing_of_itself():
    train = knock_downs()
    train.effects[train.perturbations.index("A"), 0] = np.nan
    own = fit_own_target(train)
    assert own.share
    assert own.overall == pytest.approx(0.2)
    assert np.isnan(set_apart(train).effects[train.perturbations.index("A"), 0])


def test_a_target_that_is_alone_in_its_context_stands_at_what_other_contexts_do():
    train = knock_downs(contexts="xyz")
    kept = [p == "A" or c != "z" for p, c in zip(train.perturbations, train.contexts)]
    train = train.rows(np.array(kept))
    train.effects[[train.perturbations.index(p) for p in "BC"], 0] = [0.3, 0.5]  # in x
    row = next(i for i, pair in enumerate(zip(train.perturbations, train.contexts)) if pair == ("A", "z"))
    assert set_apart(train).effects[row, 0] == pytest.approx((0.3 + 0.5 + 4 * 0.1) / 6)
