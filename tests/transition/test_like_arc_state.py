import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stateshift.transition.arc.checkpoint import arc_model

GOLDEN = Path(__file__).parents[1] / "assets" / "transition"
CASES = json.loads((GOLDEN / "cases.json").read_text())


def golden(name: str) -> dict[str, dict[str, torch.Tensor]]:
    """``weight``, ``input`` and ``output`` of a case, name → tensor."""
    parts = {"weight": {}, "input": {}, "output": {}}
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as stored:
        for key in stored.files:
            part, _, rest = key.partition(":")
            parts[part][rest] = torch.from_numpy(stored[key])
    return parts


@pytest.mark.parametrize("name", CASES)
def test_the_same_weights_give_what_arc_state_gives(name):
    case = golden(name)
    model = arc_model(case["weight"], CASES[name], name)
    with torch.inference_mode():
        ours = model(case["input"])
    expected = case["output"]
    torch.testing.assert_close(ours.cells.flatten(0, 1), expected["cells"], atol=1e-5, rtol=0)
    assert expected["cells"].std() > 0.01
    decodes = model.config.gene_decoder
    assert decodes == (CASES[name]["embed_key"] is not None and CASES[name]["output_space"] != "embedding")
    if decodes:
        torch.testing.assert_close(ours.genes.flatten(0, 1), expected["genes"], atol=1e-5, rtol=0)
    assert (ours.confidence is None) == ("confidence" not in expected)
    if ours.confidence is not None:
        torch.testing.assert_close(ours.confidence, expected["confidence"].squeeze(1), atol=1e-5, rtol=0)
    assert (ours.batch_logits is None) == ("batch_logits" not in expected)
    if ours.batch_logits is not None:
        torch.testing.assert_close(ours.batch_logits, expected["batch_logits"].squeeze(1), atol=1e-5, rtol=0)
