"""Arrays in the page: every value comes back within half a step."""

from __future__ import annotations

import base64
import zlib

import numpy as np

from stateshift.evaluation.report.explorer.packing import ABSENT, packed


def test_values_come_back_within_half_a_step_and_nan_as_absent():
    rng = np.random.default_rng(0)
    arrays = {"effect": rng.normal(0, 2, (7, 11)), "rate": np.abs(rng.normal(0, 90, (7, 11)))}
    arrays["effect"][2, 3] = np.nan
    told, text = packed(arrays, {"effect": 0.001, "rate": 0.01})
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, 2, 77)
    for values, one, (low, high) in zip(arrays.values(), told, planes):
        whole = (low.astype(np.int32) | (high.astype(np.int32) << 8)).astype(np.uint16).view(np.int16).reshape(7, 11)
        known = ~np.isnan(values)
        assert (whole[~known] == ABSENT).all()
        assert np.abs(whole[known] * one["step"] - values[known]).max() <= one["step"] / 2 + 1e-12


def test_values_beyond_16_bits_are_held_at_the_end_and_are_never_absent():
    _, text = packed({"effect": np.array([[-1e9, 1e9]])}, {"effect": 0.001})
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, 2).astype(int)
    assert ((low | high << 8) == [65536 - 32767, 32767]).all()
