"""Arrays in a page: rounded, deflated, base64."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

import numpy as np

ABSENT = -32768
"""What stands for NaN and infinity."""


def packed(arrays: Mapping[str, np.ndarray], steps: Mapping[str, float]) -> tuple[list[dict[str, object]], str]:
    """Arrays (R, G) as one text, and what unpacks it.

    Each value is rounded to a multiple of its array's step and kept in 16 bits; all low bytes stand before all high
    bytes, for the high ones are nearly all alike and deflate to little.

    Returns
    -------
    tuple
        One dict an array, in the order of the text: ``name``, ``step``; and the base64 of the deflated bytes.

    Examples
    --------
    >>> told, text = packed({"effect": np.array([[0.1234, float("nan")]])}, {"effect": 0.001})
    >>> told, list(zlib.decompress(base64.b64decode(text)))
    ([{'name': 'effect', 'step': 0.001}], [123, 0, 0, 128])
    """
    told, planes = [], []
    for name, values in arrays.items():
        scaled = np.clip(np.rint(np.asarray(values, dtype=np.float64) / steps[name]), ABSENT + 1, -ABSENT - 1)
        whole = np.ascontiguousarray(np.where(np.isfinite(values), scaled, ABSENT), dtype="<i2")
        planes.append(whole.view(np.uint8).reshape(-1, 2).T.tobytes())
        told.append({"name": name, "step": steps[name]})
    return told, base64.b64encode(zlib.compress(b"".join(planes))).decode()
