"""Vectors of what is to be predicted."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
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


ESM2 = {"source": "esm2", "model_sha256": "a1", "layer": 33, "pooling": "mean", "precision": "fp32"}


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (ESM2, ESM2 | {"precision": "bf16"}, None),
        (ESM2, {"source": "table"}, None),
        (ESM2, ESM2 | {"layer": 20}, "layer 20, the run's 33"),
        (ESM2, {"source": "gene_sets"}, "source gene_sets, the run's esm2"),
        ({"source": "network", "lookup_sha256": "a"}, {"source": "network", "lookup_sha256": "b"}, "lookup_sha256 b"),
        ({"source": "symbol"}, {"source": "symbol"}, "depends on the genes that a table holds"),
    ],
)
def test_vectors_of_new_genes_alone_are_held_to_what_made_the_runs(tmp_path, ours, theirs, said):
    run = RunDirectory(tmp_path / "run")
    FeatureTable(["A"], np.array([[1.0, 2.0]]), ours).save(run.features_file)
    FeatureTable(["B"], np.array([[3.0, 4.0]]), theirs).save(tmp_path / "more.pt")
    if said is None:
        assert find_vectors(run, tmp_path / "more.pt", [("K562", "B")])[0].genes == ["A", "B"]
        return
    with pytest.raises(StateshiftError, match=said):
        find_vectors(run, tmp_path / "more.pt", [("K562", "B")])
