"""What is gathered of a candidate's cells, held to numpy's; and what a candidate is read as."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge import read_season
from stateshift.challenge.candidate import opened_candidate
from stateshift.challenge.facts import gather
from stateshift.errors import StateshiftError

GENES = [f"G{i}" for i in range(8)]


def cells_of(X, labels, contexts=None, **uns):
    obs = pd.DataFrame({"target_gene": labels}, index=[f"c{i}" for i in range(len(labels))])
    if contexts is not None:
        obs["context"] = contexts
    return ad.AnnData(
        csr_matrix(np.asarray(X, np.float32)), obs=obs, var=pd.DataFrame(index=GENES[: len(X[0])]), uns=uns
    )


def gathered(cells, wanted=None, **options):
    with opened_candidate(cells, read_season("2026").cells) as found:
        return gather(found, np.ones(found.n, bool) if wanted is None else wanted, **options)


@pytest.fixture
def twenty():
    """Twenty cells of two contexts and three labels, in no order, and a mask of some of them."""
    rng = np.random.default_rng(3)
    X = rng.poisson(1.5, (20, 8)) * 1.5
    labels, contexts = rng.choice(["b", "a", "c"], 20), rng.choice(["Y", "X"], 20)
    wanted = np.ones(20, bool)
    wanted[[0, 4, 5, 6, 7, 11, 13, 15, 16, 17, 18, 19]] = False  # eight are left, as many as there are genes
    return X, labels, contexts, wanted


@pytest.mark.parametrize("at_once", [2**24, 40, 1])
@pytest.mark.parametrize("on_disk", [False, True])
def test_facts_are_numpys_of_each_group_in_one_block_or_many(twenty, at_once, on_disk, monkeypatch, tmp_path):
    for module in ("challenge.candidate", "cells.matrix.stored"):
        monkeypatch.setattr(f"stateshift.{module}.VALUES_AT_ONCE", at_once)
    X, labels, contexts, wanted = twenty
    cells = cells_of(X, labels, contexts)
    if on_disk:
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = tmp_path / "cells.h5ad"
    facts = gathered(cells, wanted)
    own, pairs = X[wanted], list(zip(contexts[wanted], labels[wanted]))
    assert facts.rows.tolist() == np.flatnonzero(wanted).tolist()
    assert facts.groups == sorted(set(pairs))
    assert [facts.groups[g] for g in facts.of_group] == pairs
    of = [own[[pair == group for pair in pairs]] for group in facts.groups]
    assert facts.sizes.tolist() == [len(x) for x in of]
    np.testing.assert_allclose(facts.means(), [x.mean(axis=0) for x in of])
    np.testing.assert_allclose(facts.variance(), [x.var(axis=0).mean() for x in of], atol=1e-12)
    assert facts.stored.tolist() == (own > 0).sum(axis=1).tolist()
    assert facts.values.totals.tolist() == own.sum(axis=1).tolist()
    assert facts.fractions.tolist() == (own != np.rint(own)).any(axis=1).tolist()
    assert (facts.n_negative, facts.values.n_bad) == (0, 0)


def test_genes_may_be_looked_at_in_another_order_and_totals_be_of_some_alone(twenty):
    X, labels, contexts, _ = twenty
    places = np.array([5, 0, 3])
    np.testing.assert_allclose(
        gathered(cells_of(X, labels, contexts), columns=places).means(),
        gathered(cells_of(X, labels, contexts)).means()[:, places],
    )
    listed = np.isin(np.arange(8), places)
    facts = gathered(cells_of(X, labels, contexts), listed=listed)
    assert facts.values.totals.tolist() == X[:, listed].sum(axis=1).tolist()
    assert facts.stored.tolist() == (X[:, listed] > 0).sum(axis=1).tolist()
    np.testing.assert_allclose(facts.sums.sum(axis=0), X.sum(axis=0))


def test_equal_cells_have_equal_digests_and_no_others():
    X = [[1, 2, 0], [0, 2, 1], [1, 2, 0], [2, 1, 0], [0, 1, 2], [0, 0, 0], [1, 2, 1], [0, 0, 0]]
    digests = gathered(cells_of(X, ["a"] * 8)).digests.tolist()
    assert [digests.index(d) for d in digests] == [0, 1, 0, 3, 4, 5, 6, 5]


def test_a_fraction_larger_than_the_seasons_is_one():
    X = [[1, 2.0005, 3], [1, 2.0015, 3], [1, 0.9985, 3], [0, 0, 0]]
    assert gathered(cells_of(X, ["a"] * 4), whole=1e-3).fractions.tolist() == [False, True, True, False]


def test_negative_values_are_counted_beside_nan_ones_too(monkeypatch):
    monkeypatch.setattr("stateshift.challenge.candidate.VALUES_AT_ONCE", 1)
    facts = gathered(cells_of([[-1, 2, 3], [np.nan, -2, -5], [4, 5, -6]], ["a"] * 3))
    assert (facts.values.n_bad, facts.n_negative) == (1, 4)


def test_groups_are_spelt_with_their_context_where_there_are_several():
    one = gathered(cells_of(np.ones((3, 2)), ["a", "b", "c"], ["X"] * 3))
    assert one.spelling(np.array([True, False, True])) == ["a", "c"]
    two = gathered(cells_of(np.ones((3, 2)), ["a", "b", "c"], ["X", "X", "Y"]))
    assert two.spelling(np.array([True, False, True])) == ["a in X", "c in Y"]
    assert gathered(cells_of(np.ones((3, 2)), list("abc")), np.zeros(3, bool)).groups == []


@pytest.mark.parametrize(
    ("labels", "uns", "control", "read_as"),
    [
        (["non-targeting", "G1"], {}, "non-targeting", None),
        (["ctrl", "G1"], {}, "ctrl", None),
        (["mock", "G1"], {"stateshift": {"control": "mock"}}, "mock", None),
        # declared, but the cells go by the season's name
        (["non-targeting", "G1"], {"stateshift": {"control": "mock"}}, "non-targeting", None),
        # both names: one control
        (["mock", "non-targeting", "G1"], {"stateshift": {"control": "mock"}}, "mock", ["mock", "mock", "G1"]),
        # the season's name comes before other conventional ones, which are then targets
        (["ctrl", "non-targeting", "G1"], {}, "non-targeting", None),
        (["G2", "G1"], {}, "non-targeting", None),
    ],
)
def test_the_control_is_the_declared_one_the_seasons_or_a_conventional_one(labels, uns, control, read_as):
    with opened_candidate(cells_of(np.ones((len(labels), 2)), labels, **uns), read_season("2026").cells) as found:
        assert found.control == control
        assert found.labels.tolist() == (read_as or labels)
        assert found.is_control.tolist() == [label == control for label in found.labels]


def test_columns_are_the_seasons_or_conventional_ones_and_gaps_name_nothing():
    cells = cells_of(np.ones((3, 2)), ["a", None, "b"])
    cells.obs["cell_line"], cells.obs["gem_group"] = ["X", "Y", np.nan], [1, 2, 1]
    with opened_candidate(cells, read_season("2025").cells) as found:
        assert found.labels.tolist() == ["a", "", "b"]
        assert found.contexts.tolist() == ["X", "Y", ""]
        assert found.batches.tolist() == ["1", "2", "1"]
        assert found.columns == ["target_gene", "cell_line", "gem_group"]
        assert found.declared is None
    cells.obs = cells.obs.rename(columns={"target_gene": "guide", "cell_line": "line"})
    with opened_candidate(cells) as found:
        assert (found.labels, found.contexts, found.control) == (None, None, "non-targeting")
        assert found.is_control.tolist() == [False] * 3


def test_cells_without_values_in_memory_are_said():
    with (
        pytest.raises(StateshiftError, match="the prediction has no X"),
        opened_candidate(ad.AnnData(obs=pd.DataFrame(index=["a"]))),
    ):
        pass
