"""A network is kept where held-out pairs say that it helps, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from stateshift.errors import StateshiftError
from stateshift.metrics import paired_bootstrap
from stateshift.run import RunDirectory
from stateshift.training import train
from stateshift.training.anchored import KeepRule, read_verdicts
from stateshift.training.anchored.keeping import verdicts

SMALL = [
    "model=anchored", "model.hidden=32", "model.ffn=32", "model.heads=2", "model.layers=1", "model.set_size=16",
    "training.lr=3e-3", "training.max_steps=100", "training.val_every=50",
]  # fmt: skip
GENES = [f"G{i}" for i in range(12)]


def test_of_one_step_the_interval_is_student_s():
    rng = np.random.default_rng(0)
    backbone = rng.random(12)
    network = backbone + 0.1 + 0.02 * rng.standard_normal(12)
    verdict = verdicts({0: backbone, 50: network}, GENES, ["T"] * 12, 50)["T"]
    expected = ttest_1samp(network - backbone, 0).confidence_interval()
    assert verdict.kept
    assert verdict.mean == pytest.approx((network - backbone).mean())
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high), abs=0.002)
    assert verdict.network == pytest.approx(network.mean())


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


def test_too_few_perturbations_keep_nothing():
    verdict = verdicts({0: np.zeros(4), 50: np.ones(4)}, GENES[:4], ["T"] * 4, 50)["T"]
    assert verdict.mean == 1
    assert not verdict.kept


def test_a_network_whose_best_step_is_the_backbone_is_not_kept():
    assert not verdicts({0: np.zeros(12), 50: np.ones(12)}, GENES, ["T"] * 12, 0)["T"].kept


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
    toml = two_way_screen(told=told)
    run = train(toml, SMALL, output_dir=toml.parent, name="run")
    verdict = read_verdicts(RunDirectory(run))["T"]
    assert verdict.pairs == 20
    assert verdict.kept == told
    if told:
        assert verdict.network > 0.9 > verdict.backbone + 0.5
