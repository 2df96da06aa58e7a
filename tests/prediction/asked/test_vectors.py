"""Vectors of what is to be predicted."""

from __future__ import annotations

import numpy as np

from stateshift.feature_table import FeatureTable
from stateshift.prediction.asked.vectors import find_vectors
from stateshift.run import RunDirectory


def test_a_gene_that_another_table_has_filled_in_is_known_as_filled_in(tmp_path):
    run = RunDirectory(tmp_path / "run")
    FeatureTable(["A"], np.array([[1.0, 2.0]]), {"source": "made"}).save(run.features_file)
    filled = {"source": "made", "missing_policy": {"B": "mean", "C": "mean"}}
    FeatureTable(list("ABC"), np.array([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]), filled).save(tmp_path / "more.pt")
    table, unknown = find_vectors(run, tmp_path / "more.pt", [("K562", "A"), ("K562", "A+B")])
    assert (table.genes, unknown) == (["A", "B"], {})
    assert table.without_filled().vectors.tolist() == [[1, 2], [0, 0]]
