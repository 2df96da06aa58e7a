"""The kernels of the rank-sum test: ties among controls, and two sides walked through from the lowest value up."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def stored_of_genes(genes: np.ndarray, n_genes: int) -> np.ndarray:
    """How many cells have a value other than zero, gene by gene (G,)."""
    found = np.zeros(n_genes, np.int64)
    for e in range(len(genes)):
        found[genes[e]] += 1
    return found


@njit(cache=True, nogil=True)
def tie_sums(starts: np.ndarray, genes: np.ndarray, stored: np.ndarray, n_cells: int) -> np.ndarray:
    """Σ t³ − t over the ties of each gene, the zeros that aren't stored among them; (G,) int64."""
    sums, tied = np.empty(len(stored), np.int64), np.zeros(len(stored), np.int64)
    for j in range(len(sums)):
        zeros = n_cells - stored[j]
        sums[j] = zeros * zeros * zeros - zeros
    for d in range(len(starts) - 1):
        for e in range(starts[d], starts[d + 1]):
            x = tied[genes[e]]
            # from t to t + 1 the sum grows by 3 t (t + 1)
            sums[genes[e]] += 3 * x * (x + 1)
            tied[genes[e]] = x + 1
        for e in range(starts[d], starts[d + 1]):
            tied[genes[e]] = 0
    return sums


@njit(cache=True, nogil=True)
def p_values(
    control_values: np.ndarray,
    control_starts: np.ndarray,
    control_genes: np.ndarray,
    control_stored: np.ndarray,
    control_ties: np.ndarray,
    n_controls: int,
    values: np.ndarray,
    starts: np.ndarray,
    genes: np.ndarray,
    n_cells: int,
) -> np.ndarray:
    """Two-sided p-values (G,) of n_cells cells against n_controls, both as `stateshift.evaluation.significance.Ordered`.

    With U the pairs that a cell wins, ties half, and T = Σ t³ − t over the ties of all n cells together,

        z = (|U − n₁n₀/2| − ½) / √(n₁n₀/12 · (n + 1 − T / n(n − 1))),    p = min(1, erfc(z / √2))

    (Mann & Whitney 1947; the correction for ties of Lehmann 1975, section 1.4). All genes are walked through at once,
    value by value: of each gene is kept how many controls lie below, and T is that of the controls, changed where a
    cell shares a value.
    """
    G = len(control_stored)
    below, alike, mine, stored = (
        np.zeros(G, np.int32),
        np.zeros(G, np.int32),
        np.zeros(G, np.int32),
        np.zeros(G, np.int32),
    )
    # won: twice the pairs won over controls that are not zero
    won, ties = np.zeros(G, np.int64), np.zeros(G, np.int64)
    at = 0
    for d in range(len(values)):
        lower = at
        while at < len(control_values) and control_values[at] < values[d]:
            at += 1
        for e in range(control_starts[lower], control_starts[at]):
            below[control_genes[e]] += 1
        shared = at < len(control_values) and control_values[at] == values[d]
        if not shared and starts[d + 1] - starts[d] == 1:
            j = genes[starts[d]]
            won[j] += 2 * below[j]
            stored[j] += 1
            continue
        if shared:
            for e in range(control_starts[at], control_starts[at + 1]):
                alike[control_genes[e]] += 1
        for e in range(starts[d], starts[d + 1]):
            j = genes[e]
            won[j] += 2 * below[j] + alike[j]
            x = np.int64(alike[j] + mine[j])
            ties[j] += 3 * x * (x + 1)
            mine[j] += 1
        for e in range(starts[d], starts[d + 1]):
            stored[genes[e]] += 1
            mine[genes[e]] = 0
        if shared:
            for e in range(control_starts[at], control_starts[at + 1]):
                alike[control_genes[e]] = 0
                below[control_genes[e]] += 1
            at += 1
    found, n = np.ones(G), n_cells + n_controls
    pairs = float(n_cells) * float(n_controls)
    for j in range(G):
        zeros, control_zeros = n_cells - np.int64(stored[j]), n_controls - control_stored[j]
        both = zeros + control_zeros
        total = control_ties[j] + ties[j]
        total += both * (both * both - 1) - control_zeros * (control_zeros * control_zeros - 1)
        wins = won[j] + zeros * control_zeros + 2 * stored[j] * control_zeros
        variance = pairs / 12.0 * ((n + 1.0) - float(total) / (float(n) * (n - 1.0)))
        if variance > 0.0:
            z = (max(wins / 2.0, pairs - wins / 2.0) - pairs / 2.0 - 0.5) / math.sqrt(variance)
            found[j] = min(1.0, math.erfc(z / math.sqrt(2.0)))
    return found
