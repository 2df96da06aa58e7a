import numpy as np
import pandas as pd
import pytest

from stateshift.cells.pseudobulk import context_summary, strongest_effects


def test_contexts_are_counted_and_reliability_comes_in_quartiles(whole_table):
    whole_table.reliability = np.array([0.5, 0.9, np.nan])
    k562, t98g = context_summary(whole_table).itertuples(index=False)
    assert tuple(k562) == pytest.approx(("K562", 2, 50, 3, 0.6, 0.7, 0.8))
    assert (t98g.context, t98g.perturbations, t98g.cells) == ("T98G/late", 1, 4)
    assert np.isnan(t98g.q50)


def test_the_strongest_effects_come_first_with_their_largest_genes(whole_table):
    whole_table.shrunk = np.float32([[0, 0.1, 0, 0], [3, -4, np.nan, 0.5], [1, 0, 0, -2]])
    found = strongest_effects(whole_table, most=2)
    assert found["perturbation"].tolist() == ["A+B", "A"]
    assert found["length"].tolist() == pytest.approx([np.sqrt(25.25), np.sqrt(5)])
    assert found["genes"].tolist() == ["g2 -4.00, g1 +3.00, g4 +0.50", "g4 -2.00, g1 +1.00"]
    pd.testing.assert_series_equal(found["cells"], pd.Series([30, 4], name="cells"))
