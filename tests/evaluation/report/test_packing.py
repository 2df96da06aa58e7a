"""Arrays in the page: every value comes back within half a step."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pandas as pd
import pytest

from stateshift.evaluation.report.detail import Detail
from stateshift.evaluation.report.explorer import explorer_section
from stateshift.evaluation.report.explorer.packing import ABSENT, packed
from stateshift.evaluation.report.explorer.payload import VALUES, payload


def test_values_come_back_within_half_a_step_and_nan_as_absent():
    rng = np.random.default_rng(0)
    arrays = {"effect": rng.normal(0, 2, (7, 11)), "rate": np.abs(rng.normal(0, 90, (7, 11)))}
    arrays["effect"][2, 3:6] = np.nan, np.inf, -np.inf
    told, text = packed(arrays, {"effect": 0.001, "rate": 0.01})
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, 2, 77)
    for values, one, (low, high) in zip(arrays.values(), told, planes):
        whole = (low.astype(np.int32) | (high.astype(np.int32) << 8)).astype(np.uint16).view(np.int16).reshape(7, 11)
        known = np.isfinite(values)
        assert (whole[~known] == ABSENT).all()
        assert np.abs(whole[known] * one["step"] - values[known]).max() <= one["step"] / 2 + 1e-12


def test_values_beyond_16_bits_are_held_at_the_end_and_are_never_absent():
    _, text = packed({"effect": np.array([[-1e9, 1e9]])}, {"effect": 0.001})
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, 2).astype(int)
    assert ((low | high << 8) == [65536 - 32767, 32767]).all()


def test_columns_that_were_picked_are_packed_row_by_row():
    picked = np.arange(12.0).reshape(3, 4)[:, [0, 2]]
    told, text = packed({"effect": picked}, {"effect": 1.0})
    assert (told, text) == packed({"effect": picked.copy(order="C")}, {"effect": 1.0})
    assert list(zlib.decompress(base64.b64decode(text))[:6]) == [0, 2, 4, 6, 8, 10]


def test_more_values_than_a_page_holds_are_cut_to_the_strongest_genes():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 300_000))
    rows = pd.DataFrame({"context": "K562", "perturbation": list("ABCD"), "route": "", "regime": "", "n_predicted": 3})
    detail = Detail("m", [f"g{i}" for i in range(300_000)], rows, values, n_genes=300_000)
    content, text = payload(detail, {}, {})
    told = json.loads(content)
    assert len(told["genes"]) == VALUES // 4
    said = "Of 300,000 genes this page holds the 150,000 with the strongest effect in any pair"
    assert any(said in line for line in explorer_section(detail, {}, {}))
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(int)
    first = (planes[0, 0] | planes[1, 0] << 8) / 1000
    assert first - 65.536 * (first > 32) == pytest.approx(values[0, int(told["genes"][0][1:])], abs=6e-4)


def test_a_response_is_what_the_unrounded_values_say():
    rows = pd.DataFrame({"context": "K562", "perturbation": ["A"], "route": "", "regime": "", "n_predicted": 3})
    # 0.0499 is 1.30 in steps of 0.01, as 0.0501 is; 0.0003 and -0.0003 are both 0 in steps of 0.001
    predicted, fdr = np.array([[0.5, 0.5, 0.0003, -0.0003]]), np.array([[0.0499, 0.0501, 1e-9, 1e-9]])
    detail = Detail("m", list("wxyz"), rows, predicted, np.array([[1.0, 1.0, 1.0, 1.0]]), fdr, n_genes=4)
    content, text = payload(detail, {}, {})
    told = json.loads(content)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, 2, 4)
    at = [array["name"] for array in told["arrays"]].index("response")
    names = [told["responses"][kind] for kind in planes[at, 0]]
    assert names == [
        f"responds, direction {said}" if said else "no response" for said in ("predicted", "", "predicted", "missed")
    ]
    assert told["rows"]["responding"] == [3]
