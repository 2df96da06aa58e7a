"""Weights that rank perturbations within a gene."""

from __future__ import annotations

import numpy as np

from stateshift.effects.calls.members.within_gene import MOST_OF_A_GENE, ranking_weights


def test_what_tells_genes_apart_alone_gets_no_weight():
    rng = np.random.default_rng(0)
    gene = np.repeat(np.arange(200), 10)
    rate = rng.random(200)[gene]
    signal = rng.standard_normal(2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-2 * signal - 4 * (rate - 0.5)))).astype(int)
    weights = ranking_weights(np.stack([signal, rate], axis=1), labels, gene)
    assert weights[0] > 1.5
    assert abs(weights[1]) < 1e-6


def test_the_weights_are_those_that_made_the_labels():
    rng = np.random.default_rng(1)
    gene = np.repeat(np.arange(6000), 2)
    scores = rng.standard_normal((12000, 2))
    labels = np.zeros(12000, dtype=int)
    apart = (scores[::2] - scores[1::2]) @ [1.0, -0.5]
    first = rng.random(6000) < 1 / (1 + np.exp(-apart))
    labels[::2], labels[1::2] = first, ~first
    np.testing.assert_allclose(ranking_weights(scores, labels, gene), [1.0, -0.5], atol=0.1)


def test_genes_with_one_label_leave_all_members_alike():
    scores = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(ranking_weights(scores, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])), np.ones(3))


def test_a_gene_of_many_perturbations_counts_no_more_than_its_share():
    rng = np.random.default_rng(0)
    large = rng.standard_normal(400)
    small = rng.standard_normal(400)
    scores = np.concatenate([large, small])[:, None]
    labels = np.concatenate([large < 0, small > 0]).astype(int)
    gene = np.concatenate([np.zeros(400, dtype=int), 1 + np.arange(400) % 40])
    assert MOST_OF_A_GENE < 400
    assert ranking_weights(scores, labels, gene)[0] > 0
