"""The aggregator against PyTorch's own transformer, and batches against chains alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stateshift.errors import StateshiftError
from stateshift.structure.aggregator import Aggregator, AggregatorShape, aggregate, pad
from stateshift.structure.aggregator.model import PUBLISHED

SMALL = AggregatorShape(width=24, hidden=24, heads=3, feedforward=48, layers=2, blocks=3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Aggregator(SMALL).eval()


@pytest.fixture
def chains():
    torch.manual_seed(1)
    return [torch.randn(length, 24) for length in (1, 7, 40, 12, 3)]


def by_the_published_layers(model: Aggregator, rows: torch.Tensor) -> torch.Tensor:
    """The same weights in PyTorch's own encoder, one chain, and the blocks written out."""
    shape, state = model.shape, model.state_dict()
    layer = nn.TransformerEncoderLayer(shape.hidden, shape.heads, shape.feedforward, 0.1, batch_first=True)
    encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False).eval()
    encoder.load_state_dict({k.removeprefix("transformer."): v for k, v in state.items() if k.startswith("transf")})
    with torch.no_grad():
        x = encoder(rows[None]).sum(dim=1)[0]
        for i in range(shape.blocks):
            names = [f"embedding.block{i}.block.{n}" for n in (0, 2, 4, 6)]
            (w0, b0), (w2, b2), (w4, b4), (w6, b6) = [(state[n + ".weight"], state[n + ".bias"]) for n in names]
            inner = torch.relu(w2 @ nn.functional.layer_norm(x, x.shape, w0, b0) + b2)
            x = torch.relu(x + w6 @ nn.functional.layer_norm(inner, x.shape, w4, b4) + b6)
        return torch.relu(state["embedding.linear.weight"] @ x + state["embedding.linear.bias"])


def test_it_equals_pytorch_s_encoder_and_blocks_written_out(model, chains):
    for rows in chains:
        expected = by_the_published_layers(model, rows)
        with torch.no_grad():
            torch.testing.assert_close(model(rows[None])[0], expected, atol=1e-5, rtol=1e-5)
        assert (expected > 0).any()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_padded_batch_equals_each_chain_alone_in_training_and_evaluation(chains, training, gradient):
    torch.manual_seed(0)
    model = Aggregator(AggregatorShape(24, 24, 3, 48, 2, 3, dropout=0.0)).train(training)
    with torch.set_grad_enabled(gradient):
        rows, padded = pad(chains)
        together = model(rows.masked_fill(padded[..., None], 1e6), padded)
        for vector, chain in zip(together, chains):
            torch.testing.assert_close(vector, model(chain[None])[0], atol=1e-5, rtol=1e-5)


def test_gradients_of_a_padded_batch_are_those_of_its_chains(chains):
    torch.manual_seed(0)
    model = Aggregator(AggregatorShape(24, 24, 3, 48, 2, 3, dropout=0.0))
    model(*pad(chains)).sum().backward()
    together = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for chain in chains:
        model(chain[None]).sum().backward()
    for a, p in zip(together, model.parameters()):
        torch.testing.assert_close(a, p.grad, atol=1e-3, rtol=1e-4)


def test_aggregate_gives_the_order_asked_for_whatever_the_budget(model, chains):
    with torch.no_grad():
        alone = torch.cat([model(chain[None]) for chain in chains])
    for budget in (1, 20, 10_000):
        torch.testing.assert_close(aggregate(model, chains, budget), alone, atol=1e-5, rtol=1e-5)


def test_the_published_size_has_172_442_112_parameters_in_170_tensors():
    with torch.device("meta"):
        state = Aggregator(PUBLISHED).state_dict()
    assert len(state) == 170
    assert sum(value.numel() for value in state.values()) == 172_442_112


def test_vectors_are_never_negative_and_no_row_order_changes_them(model, chains):
    vectors = aggregate(model, chains)
    assert (vectors >= 0).all()
    shuffled = aggregate(model, [chain.flip(0) for chain in chains])
    torch.testing.assert_close(vectors, shuffled, atol=1e-4, rtol=1e-4)


def test_another_width_than_the_vector_s_goes_through_a_linear_layer():
    model = Aggregator(AggregatorShape.for_width(20, hidden=64, layers=1, blocks=1))
    assert model.input.weight.shape == (64, 20)
    assert aggregate(model.eval(), [torch.randn(4, 20)]).shape == (1, 64)


def test_rows_that_cannot_be_used_are_told(model):
    with pytest.raises(StateshiftError, match="1536 wide and the aggregator takes 24"):
        aggregate(model, [torch.randn(4, 1536)])
    with pytest.raises(StateshiftError, match="Chain 2 of 2 has NaN"):
        aggregate(model, [torch.ones(2, 24), torch.full((2, 24), torch.nan)])
    with pytest.raises(StateshiftError, match=r"Chain 1 of 1 has rows of shape \(0, 24\)"):
        aggregate(model, [torch.zeros(0, 24)])
    with pytest.raises(StateshiftError, match="100 can't be split among 12 heads"):
        AggregatorShape(hidden=100)
