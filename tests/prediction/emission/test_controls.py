"""What is measured of control cells is what they were made with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stateshift.prediction.emission.controls import measure_controls

from .conftest import DISPERSION, pseudobulk


def test_means_and_variances_are_those_of_log1p_1e4(screen):
    mean, variance = pseudobulk(screen.controls)
    assert screen.emitter.controls.means == pytest.approx(mean, abs=1e-5)
    assert screen.emitter.controls.variances == pytest.approx(variance, abs=1e-5)


def test_dispersions_of_expressed_genes_are_found(screen):
    found = screen.emitter.controls.dispersions
    frequent = (screen.rates > 3e-4) & (screen.rates < 2e-2)
    assert frequent.sum() > 150
    assert np.median(found[frequent]) == pytest.approx(DISPERSION, rel=0.05)
    assert np.quantile(found[frequent], [0.05, 0.95]) == pytest.approx([0.25, 0.35], abs=0.05)


def test_a_gene_that_tells_little_takes_the_dispersion_of_genes_like_it():
    rng = np.random.default_rng(0)
    rates = np.concatenate([np.full(60, 0.016), np.full(40, 1e-3)])
    rates /= rates.sum()
    dispersion = np.where(np.arange(100) < 60, 0.1, 2.0)
    counts = rng.poisson(rng.gamma(1 / dispersion, dispersion, (800, 100)) * 400 * rates)
    controls, _ = measure_controls(csr_matrix(counts.astype(np.float32)))
    assert np.median(controls.dispersions[:60]) == pytest.approx(0.1, rel=0.1)
    assert np.median(controls.dispersions[60:]) == pytest.approx(2.0, rel=0.3)
    # each rare gene alone is measured to about 100 %
    assert controls.dispersions[60:].std() < 1.0


def test_a_raised_gene_varies_like_genes_of_its_new_rate():
    rng = np.random.default_rng(0)
    rates = np.exp(np.linspace(-9, -3, 200))
    rates /= rates.sum()
    dispersion = np.minimum(2e-3 / rates, 3)
    counts = rng.poisson(rng.gamma(1 / dispersion, dispersion, (2_000, 200)) * 10_000 * rates)
    controls, _ = measure_controls(csr_matrix(counts.astype(np.float32)))
    g = 60
    factors = np.ones((200, 3))
    factors[g] = (0.5, 1, 30)
    own = controls.dispersions[g]
    at_new_rate = 2e-3 / (30 * rates[g])
    expected = [own, own, (own + 29 * at_new_rate) / 30]
    assert 1 / controls.shapes(factors)[g] == pytest.approx(expected, rel=0.25)
    assert own > 4 * expected[2]


def test_the_tally_holds_every_cell_of_every_gene(screen):
    controls, tally = measure_controls(screen.controls)
    assert (tally.cells.sum(axis=(1, 2)) == 2_000).all()
    totals = (tally.cells @ tally.counts).sum(axis=1)
    assert totals == pytest.approx(screen.controls.sum(axis=0).A1, rel=0.01)
    assert 1e4 / tally.scales.mean() == pytest.approx(controls.depths.mean(), rel=0.2)
