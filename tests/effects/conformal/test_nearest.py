import numpy as np

from stateshift.effects.conformal import nearest_trained
from stateshift.feature_table import FeatureTable


def test_the_nearest_is_that_of_scipy_in_the_standardised_space():
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(12)]
    vectors = rng.standard_normal((12, 5)).astype(np.float32) * [1, 10, 100, 0.1, 1]
    table = FeatureTable(genes, vectors)
    trained, asked = genes[:8], genes[8:]
    z = (vectors - vectors[:8].mean(0)) / vectors[:8].std(0) / np.sqrt(5)
    expected = cdist(z[8:], z[:8])
    distances, names = nearest_trained(table, trained, asked)
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-4)
    assert names == [trained[i] for i in expected.argmin(axis=1)]


def test_a_trained_perturbation_is_its_own_nearest_unless_it_is_set_apart():
    table = FeatureTable(["A", "B", "C"], np.diag([1.0, 2.0, 3.0]))
    distances, names = nearest_trained(table, ["A", "B", "A+C"], ["A"])
    assert (distances[0], names[0]) == (0, "A")
    assert nearest_trained(table, ["A", "B", "A+C"], ["A"], apart=True)[1] == ["B"]
    alone = nearest_trained(table, ["A", "A+C"], ["A"], apart=True)
    assert np.isnan(alone[0][0])
    assert alone[1] == [""]
