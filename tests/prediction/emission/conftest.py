"""Simulated control cells of known rates, and perturbed cells of known factors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stateshift.prediction.emission import Emitter

G, DISPERSION = 300, 0.3


@dataclass
class Simulated:
    """Gamma-Poisson cells: 2,000 controls of 300 genes, some 3,000 counts a cell."""

    rates: np.ndarray
    controls: csr_matrix
    emitter: Emitter
    known: dict[bytes, np.ndarray] = field(default_factory=dict)

    def cells(self, factors: np.ndarray, n: int, seed: int) -> csr_matrix:
        """Cells whose rates are multiplied by factors, brought back to a sum of 1."""
        return simulated(self.rates * factors, n, np.random.default_rng(seed))

    def effect(self, factors: np.ndarray) -> np.ndarray:
        """What the factors do to the pseudobulk, of 10,000 cells; the same ones are simulated once."""
        key = factors.tobytes()
        if key not in self.known:
            self.known[key] = pseudobulk(self.cells(factors, 10_000, 99))[0] - pseudobulk(self.controls)[0]
        return self.known[key]


def simulated(rates: np.ndarray, n: int, rng: np.random.Generator) -> csr_matrix:
    depths = 3_000 * np.exp(0.35 * rng.standard_normal(n))
    spread = rng.gamma(1 / DISPERSION, DISPERSION, (n, len(rates)))
    return csr_matrix(rng.poisson(spread * np.outer(depths, rates / rates.sum())).astype(np.float32))


def pseudobulk(counts: csr_matrix | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of log1p_1e4, (G,) each, the plain way."""
    x = (counts if isinstance(counts, np.ndarray) else counts.toarray()).astype(float)
    x = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))
    return x.mean(axis=0), x.var(axis=0, ddof=1)


@pytest.fixture(scope="package")
def screen() -> Simulated:
    rng = np.random.default_rng(0)
    rates = np.exp(1.8 * rng.standard_normal(G))
    rates /= rates.sum()
    controls = simulated(rates, 2_000, rng)
    return Simulated(rates, controls, Emitter(controls, "simulated"))
