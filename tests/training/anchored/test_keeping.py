"""A network is kept where held-out pairs say that it helps, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import sem, ttest_1samp

from stateshift.errors import StateshiftError
from stateshift.metrics import paired_bootstrap
from stateshift.run import RunDirectory
from stateshift.training import train
from stateshift.training.anchored import KeepRule, read_verdicts, too_few_to_judge
from stateshift.training.anchored.keeping import verdicts

SMALL = [
    "model=anchored", "model.hidden=32", "model.ffn=32", "model.heads=2", "model.layers=1", "model.set_size=16",
    "training.lr=3e-3", "training.max_steps=100", "training.val_every=50",
]  # fmt: skip
GENES = [f"G{i}" for i in range(12)]


def test_of_one_step_of_normal_gains_the_interval_is_student_s():
    rng = np.random.default_rng(0)
    backbone = rng.random(40)
    network = backbone + 0.1 + 0.02 * rng.standard_normal(40)
    verdict = verdicts({0: backbone, 50: network}, [f"G{i}" for i in range(40)], ["T"] * 40, 50)["T"]
    expected = ttest_1samp(network - backbone, 0).confidence_interval()
    assert verdict.kept
    assert verdict.mean == pytest.approx((network - backbone).mean())
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high), abs=0.001)
    assert verdict.network == pytest.approx(network.mean())


def test_each_draw_is_measured_by_its_own_standard_error():
    rng = np.random.default_rng(0)
    gains = 0.2 - 0.1 * rng.exponential(size=(2, 12))
    verdict = verdicts({0: np.zeros(12), 1: gains[0], 2: gains[1]}, GENES, ["T"] * 12, 1)["T"]
    tops = []
    for _ in range(4000):
        drawn = gains[:, rng.integers(12, size=12)]
        tops.append(((drawn.mean(axis=1) - gains.mean(axis=1)) / sem(drawn, axis=1)).max())
    assert verdict.low == pytest.approx(gains[0].mean() - sem(gains[0]) * np.quantile(tops, 0.975), abs=0.01)


def test_pairs_of_a_perturbation_count_as_one():
    gains = np.random.default_rng(0).standard_normal(12)
    once = verdicts({0: np.zeros(12), 50: gains}, GENES, ["C"] * 12, 50)["C"]
    twice = verdicts({0: np.zeros(24), 50: np.tile(gains, 2)}, GENES * 2, ["C"] * 24, 50)["C"]
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert (twice.pairs, twice.perturbations) == (24, 12)


def test_each_regime_is_judged_by_itself():
    backbone = np.full(24, 0.5)
    network = backbone + np.r_[np.full(12, 0.2), np.resize([0.2, -0.2], 12)]
    found = verdicts({0: backbone, 50: network}, GENES * 2, ["T"] * 12 + ["J"] * 12, 50)
    assert (found["T"].kept, found["J"].kept) == (True, False)
    assert found["J"].low < 0 < found["J"].high


def test_the_gain_of_a_step_that_was_chosen_for_it_does_not_count():
    """Of many steps of noise, the best looks good on the pairs that chose it."""
    kept, naive, genes = 0, 0, [f"G{i}" for i in range(30)]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scores = {0: np.zeros(30)} | {step: 0.3 * rng.standard_normal(30) for step in range(1, 21)}
        best = max(scores, key=lambda step: scores[step].mean())
        naive += paired_bootstrap(scores[best], scores[0]).low > 0
        kept += verdicts(scores, genes, ["T"] * 30, best)["T"].kept
    assert naive >= 8
    assert kept <= 3


@pytest.mark.parametrize("law", ["exponential", "lognormal"])
def test_noise_of_few_great_losses_is_not_kept(law):
    """With eight pairs, most samples of it lack the losses, and look like a gain."""
    kept, genes = 0, GENES[:8]
    for seed in range(40):
        noise = getattr(np.random.default_rng(seed), law)(size=(10, 8))
        scores = {0: np.zeros(8)} | dict(enumerate((1 if law == "exponential" else np.exp(0.5)) - noise, start=1))
        best = max(scores, key=lambda step: scores[step].mean())
        kept += verdicts(scores, genes, ["T"] * 8, best)["T"].kept
    assert kept <= 3


def test_a_gain_of_one_deviation_is_found_with_25_perturbations():
    kept = 0
    for seed in range(20):
        gains = 1 + np.random.default_rng(seed).standard_normal((10, 25))
        scores = {0: np.zeros(25)} | dict(enumerate(gains, start=1))
        kept += verdicts(scores, [f"G{i}" for i in range(25)], ["T"] * 25, 1 + gains.mean(axis=1).argmax())["T"].kept
    assert kept >= 19


def test_too_few_perturbations_keep_nothing():
    verdict = verdicts({0: np.zeros(4), 50: np.ones(4)}, GENES[:4], ["T"] * 4, 50)["T"]
    assert verdict.mean == 1
    assert not verdict.kept


def test_a_network_whose_best_step_is_the_backbone_is_not_kept():
    assert not verdicts({0: np.zeros(12), 50: np.ones(12)}, GENES, ["T"] * 12, 0)["T"].kept


def test_a_network_that_was_trained_before_is_judged_against_the_backbone_and_may_be_kept_as_it_came():
    trained, backbone = np.linspace(0.7, 0.9, 12), np.full(12, 0.3)
    verdict = verdicts({0: trained, 50: trained - 0.1}, GENES, ["T"] * 12, 0, backbone=backbone)["T"]
    assert verdict.kept
    assert (verdict.network, verdict.backbone, verdict.mean) == pytest.approx((0.8, 0.3, 0.5))


def test_measured_pairs_have_no_verdict():
    assert not verdicts({0: np.zeros(12)}, GENES, ["measured"] * 12, 0)


def test_the_record_of_a_rule_that_went_on_is_that_of_one_that_never_stopped(tmp_path):
    scores = np.random.default_rng(0).random((3, 12))
    for name, cut in (("whole", None), ("halves", 2)):
        (tmp_path / name).mkdir()
        rule = KeepRule(RunDirectory(tmp_path / name), GENES, ["T"] * 12, 0)
        for step, values in enumerate(scores):
            if step == cut:
                state = json.loads(json.dumps(rule.state_dict()))
                rule = KeepRule(RunDirectory(tmp_path / name), GENES, ["T"] * 12, 0)
                rule.load_state_dict(state)
            rule.add(step, values, step)
    assert (tmp_path / "whole" / "anchored.json").read_text() == (tmp_path / "halves" / "anchored.json").read_text()


def test_a_damaged_record_is_told_of(tmp_path):
    (tmp_path / "anchored.json").write_text('{"step": 0}')
    with pytest.raises(StateshiftError, match="anchored.json.*missing or damaged"):
        read_verdicts(RunDirectory(tmp_path))


@pytest.mark.parametrize("told", [True, False])
def test_a_truth_that_turns_with_the_context_is_the_network_s_where_features_tell_it(two_way_screen, told):
    toml = two_way_screen(told=told, n_targets=50, n_val=25)
    run = train(toml, SMALL, output_dir=toml.parent, name="run")
    verdict = read_verdicts(RunDirectory(run))["T"]
    assert verdict.pairs == 50
    assert verdict.kept == told
    if told:
        assert verdict.network > 0.9 > verdict.backbone + 0.5


def test_what_test_asks_for_has_to_be_judged_by_five_of_that_kind():
    train = {"k562": [*"ABCDEFGH", "X+Y"], "rpe1": ["A"]}
    val = {"k562": [*"IJKLM", "X"], "rpe1": ["I", "B"]}
    assert too_few_to_judge({"train": train, "val": val, "test": {"rpe1": ["N"]}}) == ""
    said = too_few_to_judge({"train": train, "val": val, "test": {"rpe1": ["C", "Y+X"], "hela": ["N"]}})
    assert "1 judges known targets in new contexts (C) and none judge new targets in new contexts (J):" in said
    assert "(T)" not in said
    assert "4 judge new targets (T):" in too_few_to_judge(
        {"train": train, "val": {"k562": [*"IJKL", "A"], "rpe1": ["I"]}}
    )


def test_too_few_perturbations_are_said_and_stored_without_nan(tmp_path):
    run = RunDirectory(tmp_path)
    rule = KeepRule(run, ["A", "B"], ["T", "T"], seed=0)
    rule.add(0, np.array([0.1, 0.2]), 0)
    rule.add(5, np.array([0.3, 0.5]), 5)
    assert "NaN" not in (tmp_path / "anchored.json").read_text()
    verdict = read_verdicts(run)["T"]
    assert np.isnan(verdict.low)
    assert not verdict.kept
    assert str(verdict).endswith("over 2 perturbations, fewer than the 5 that can be judged")
    assert "nan" not in str(verdict)
