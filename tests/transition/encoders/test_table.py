"""The encoder of a table is the MLP that it has always been."""

from __future__ import annotations

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.transition import TransitionConfig
from stateshift.transition.encoders import make_encoder
from stateshift.transition.heads import mlp

SHAPE = {
    "genes": 6, "features": 5, "hidden": 8, "layers": 1, "heads": 2, "ffn": 8, "set_size": 4, "encoder_layers": 3,
    "decoder_layers": 1,
}  # fmt: skip


def test_its_weights_are_those_of_an_mlp_in_name_and_value() -> None:
    torch.manual_seed(3)
    encoder = make_encoder(TransitionConfig(**SHAPE))
    torch.manual_seed(3)
    reference = mlp(5, 8, 8, 3, 0.1)
    assert list(encoder.state_dict()) == list(reference.state_dict())
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in reference.state_dict().items())


def test_it_reads_the_features_alone() -> None:
    encoder = make_encoder(TransitionConfig(**SHAPE)).eval()
    p_BF, gelu = torch.randn(2, 5), torch.nn.functional.gelu
    expected = encoder[6](gelu(encoder[3](gelu(encoder[0](p_BF)))))
    assert torch.equal(encoder({}, p_BF, torch.randn(2, 4, 8), None), expected)


def test_a_misspelt_encoder_is_refused_with_a_suggestion() -> None:
    with pytest.raises(StateshiftError, match="model.encoder=tabel.*`table`"):
        TransitionConfig(**SHAPE, encoder="tabel")
