import numpy as np
import pytest

from stateshift.cells import EffectTable
from stateshift.feature_table import FeatureTable
from stateshift.prediction.asked.support import find_support


@pytest.fixture
def train() -> EffectTable:
    pairs = [("A", "k562"), ("A", "rpe1"), ("A+B", "k562"), ("C", "rpe1")]
    return EffectTable(["g"], *map(list, zip(*pairs)), np.ones((4, 1), np.float32), np.full(4, 9), {})


TABLE = FeatureTable(["A", "B", "C", "D"], np.array([[0.0, 0], [1, 0], [0, 3], [0.1, 0]], dtype=np.float32))


def test_regimes_and_sources_do_not_mind_the_order_of_a_double(train):
    pairs = [("k562", "B+A"), ("rpe1", "B+A"), ("rpe1", "A"), ("hela", "A"), ("k562", "D")]
    found = find_support(pairs, train, TABLE, set())
    assert found.regimes == ["measured", "C", "measured", "C", "T"]
    assert found.n_sources == [1, 1, 2, 2, 0]


def test_the_nearest_trained_perturbation_is_named_with_its_distance(train):
    found = find_support([("k562", "D"), ("k562", "C")], train, TABLE, set())
    assert found.nearest_gene == ["A", "C"]
    assert found.nearest[1] == 0
    assert 0 < found.nearest[0] < 0.3


def test_a_gene_without_features_is_near_to_nothing(train):
    found = find_support([("k562", "X"), ("k562", "C")], train, TABLE, {"X"})
    assert np.isnan(found.nearest[0])
    assert found.nearest_gene == ["", "C"]


def test_a_run_without_effects_says_nothing():
    found = find_support([("k562", "A")], None, TABLE, set())
    assert (found.regimes, found.n_sources, found.nearest_gene) == ([""], [0], [""])
    assert np.isnan(found.nearest[0])
