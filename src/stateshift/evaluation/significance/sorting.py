"""The kernels that bring stored values into order: what cells hold, which values they hold, and a radix sort."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def surveyed(data: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool, bool]:
    """Of each cell its total and its largest value (n,), whether all are finite and not negative, and whole."""
    n = len(starts) - 1
    totals, largest = np.zeros(n), np.zeros(n)
    whole = True
    for i in range(n):
        total, most = 0.0, 0.0
        for e in range(starts[i], starts[i + 1]):
            value = np.float64(data[e])
            # false for NaN too
            if not 0.0 <= value < np.inf:
                return totals, largest, False, False
            total += value
            most = max(most, value)
            whole &= value == math.floor(value)
        totals[i], largest[i] = total, most
    return totals, largest, True, whole


@njit(cache=True, nogil=True)
def slots_of_counts(
    data: np.ndarray, starts: np.ndarray, largest: np.ndarray, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The different counts of each cell, on log1p of counts per million: a cell holds the same few again and again.

    Returns
    -------
    tuple
        The K values, how often each is stored, for count c of cell i at ``first[i] + c`` the number of its value, and
        ``first`` (n,).
    """
    n = len(largest)
    first = np.empty(n, np.uint64)
    size = 0
    for i in range(n):
        first[i] = size
        size += np.int64(largest[i]) + 1
    number = np.zeros(size, np.uint32)
    for i in range(n):
        for e in range(starts[i], starts[i + 1]):
            number[first[i] + np.uint64(data[e])] += 1
    K = 0
    for i in range(n):
        number[first[i]] = 0
        for c in range(np.uint64(1), np.uint64(largest[i]) + np.uint64(1)):
            K += number[first[i] + c] > 0
    values, often, at = np.empty(K), np.empty(K, np.int64), 0
    for i in range(n):
        for c in range(np.uint64(1), np.uint64(largest[i]) + np.uint64(1)):
            if number[first[i] + c] > 0:
                values[at], often[at] = np.log1p(c / (totals[i] / 1e6)), number[first[i] + c]
                number[first[i] + c] = at
                at += 1
    return values, often, number, first


@njit(cache=True, nogil=True)
def ascending(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positive float64 values in ascending order (K,), and their places before.

    Positive floats are ordered as their bits are: a radix sort by up to 32 of those, from the highest that differ, and a
    walk that puts right what differs only further down. What was single precision differs in 26 bits or so, which two
    passes sort.
    """
    K = len(values)
    order, bits = np.arange(K).astype(np.uint32), values.view(np.uint64)
    if K < 2:
        return values.copy(), order
    low = bits.min()
    span, any_bit, shift = np.uint64(bits.max() - low), np.uint64(0), np.uint64(0)
    for k in range(K):
        any_bit |= bits[k] - low
    while any_bit and not (any_bit >> shift) & np.uint64(1):
        shift += np.uint64(1)
    while span >> shift >= np.uint64(1) << np.uint64(32):
        shift += np.uint64(1)
    passes, digit = (2, 13) if span >> shift < np.uint64(1 << 26) else (3, 11)
    keys = np.empty(K, np.uint32)
    for k in range(K):
        keys[k] = (bits[k] - low) >> shift
    other, other_keys, mask = np.empty_like(order), np.empty_like(keys), np.uint32((1 << digit) - 1)
    for number in range(passes):
        down, place = np.uint32(number * digit), np.zeros((1 << digit) + 1, np.int64)
        for k in range(K):
            place[((keys[k] >> down) & mask) + np.uint32(1)] += 1
        for d in range(1 << digit):
            place[d + 1] += place[d]
        for k in range(K):
            d = (keys[k] >> down) & mask
            other[place[d]], other_keys[place[d]] = order[k], keys[k]
            place[d] += 1
        order, other, keys, other_keys = other, order, other_keys, keys
    found = np.empty(K)
    for k in range(K):
        place_before, value, at = order[k], values[order[k]], k
        while at > 0 and found[at - 1] > value:
            found[at], order[at] = found[at - 1], order[at - 1]
            at -= 1
        found[at], order[at] = value, place_before
    return found, order


@njit(cache=True, nogil=True)
def genes_by_count(
    data: np.ndarray,
    genes: np.ndarray,
    starts: np.ndarray,
    first: np.ndarray,
    number: np.ndarray,
    often: np.ndarray,
    order: np.ndarray,
) -> np.ndarray:
    """The genes of all counts in the ascending order of their values."""
    place, at = np.empty(len(often), np.uint64), 0
    for k in order:
        place[k] = at
        at += often[k]
    found = np.empty(at, np.uint32)
    for i in range(len(first)):
        for e in range(starts[i], starts[i + 1]):
            if data[e] != 0:
                k = number[first[i] + np.uint64(data[e])]
                found[place[k]] = genes[e]
                place[k] += np.uint64(1)
    return found


@njit(cache=True, nogil=True)
def mean_per_million(
    data: np.ndarray, genes: np.ndarray, starts: np.ndarray, totals: np.ndarray, n_genes: int
) -> np.ndarray:
    """Mean counts per million of each gene (G,), added cell by cell; a cell without counts has none of any."""
    means, share = np.zeros(n_genes), 1.0 / len(totals)
    for i in range(len(totals)):
        million = totals[i] / 1e6
        for e in range(starts[i], starts[i + 1]):
            if data[e] != 0:
                means[genes[e]] += data[e] / million * share
    return means
