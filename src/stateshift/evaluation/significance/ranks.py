"""The kernels of the rank-sum test: ties of sorted controls, and ranks of sorted cells among them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def tie_sums(values: np.ndarray, starts: np.ndarray, n_cells: int) -> np.ndarray:
    """Σ t³ − t over the ties of each sorted column, the zeros that aren't stored among them; (G,) int64."""
    sums = np.empty(len(starts) - 1, np.int64)
    for j in range(len(sums)):
        zeros = n_cells - (starts[j + 1] - starts[j])
        total = zeros * zeros * zeros - zeros
        at = starts[j]
        while at < starts[j + 1]:
            end = at + 1
            while end < starts[j + 1] and values[end] == values[at]:
                end += 1
            tied = end - at
            total += tied * tied * tied - tied
            at = end
        sums[j] = total
    return sums


@njit(cache=True, nogil=True)
def _first_not_below(values: np.ndarray, low: int, high: int, value: float) -> int:
    step = 1
    while low + step <= high and values[low + step - 1] < value:
        low += step
        step *= 2
    high = min(high, low + step - 1)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def p_values(
    controls: np.ndarray,
    control_starts: np.ndarray,
    control_ties: np.ndarray,
    n_controls: int,
    values: np.ndarray,
    starts: np.ndarray,
    n_cells: int,
) -> np.ndarray:
    """Two-sided p-values of n_cells cells against n_controls, gene by gene, both sorted and without their zeros.

    With U the pairs that a cell wins, ties half, and T = Σ t³ − t over the ties of all n cells together,

        z = (|U − n₁n₀/2| − ½) / √(n₁n₀/12 · (n + 1 − T / n(n − 1))),    p = min(1, erfc(z / √2))

    (Mann & Whitney 1947; the correction for ties of Lehmann 1975, section 1.4). T is that of the controls, changed
    where a cell shares a value: nothing of the controls is walked through.
    """
    genes = len(starts) - 1
    found = np.ones(genes)
    n = n_cells + n_controls
    for j in range(genes):
        first, last = control_starts[j], control_starts[j + 1]
        control_zeros = n_controls - (last - first)
        zeros = n_cells - (starts[j + 1] - starts[j])
        both = zeros + control_zeros
        ties = control_ties[j] + both * (both * both - 1) - control_zeros * (control_zeros * control_zeros - 1)
        # twice U, a whole number
        won = zeros * control_zeros
        at, place = starts[j], first
        while at < starts[j + 1]:
            value, end = values[at], at + 1
            while end < starts[j + 1] and values[end] == value:
                end += 1
            below = _first_not_below(controls, place, last, value)
            place = below
            while place < last and controls[place] == value:
                place += 1
            alike, mine = place - below, end - at
            won += mine * (2 * (control_zeros + below - first) + alike)
            both = mine + alike
            ties += both * (both * both - 1) - alike * (alike * alike - 1)
            at = end
        pairs = float(n_cells) * float(n_controls)
        variance = pairs / 12.0 * ((n + 1.0) - float(ties) / (float(n) * (n - 1.0)))
        if variance > 0.0:
            z = (max(won / 2.0, pairs - won / 2.0) - pairs / 2.0 - 0.5) / math.sqrt(variance)
            found[j] = min(1.0, math.erfc(z / math.sqrt(2.0)))
    return found
