import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins import embed_proteins, load_esm2
from stateshift.proteins.embedding.states import FrozenStates
from stateshift.proteins.esm2.last_layers import LastLayers


@pytest.fixture
def esm(checkpoint_maker):
    return load_esm2(checkpoint_maker(layers=3), precision="fp32")


@pytest.mark.parametrize("pooling", ["mean", "mean_bos_eos", "cls"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_layers_over_kept_states_give_the_vector_of_the_whole_model(esm, protein_maker, tmp_path, pooling, n_layers):
    proteins = {"short": protein_maker(17), "long": protein_maker(1900, seed=1)}
    states = FrozenStates(tmp_path, 3 - n_layers, pooling, esm.sha256, lambda: esm)
    assert states.ensure(proteins.values()) == 4  # of which three are windows of the long one
    layers = LastLayers.of(esm.network, n_layers)
    expected = dict(embed_proteins(esm, proteins, pooling=pooling))
    for name, sequence in proteins.items():
        windows = states[sequence]
        rows = layers([torch.from_numpy(w.rows) for w in windows])
        made = sum(torch.from_numpy(w.weights) @ x[: len(w.weights)] for w, x in zip(windows, rows))
        np.testing.assert_allclose(made.detach().numpy(), expected[name], atol=1e-5)


def test_states_are_computed_once(esm, protein_maker, tmp_path):
    FrozenStates(tmp_path, 2, "mean", esm.sha256, lambda: esm).ensure([protein_maker(17)])
    again = FrozenStates(tmp_path, 2, "cls", esm.sha256, lambda: pytest.fail("the model was loaded again"))
    assert again.ensure([protein_maker(17)]) == 0
    assert again[protein_maker(17)][0].rows.shape == (19, 32)


def test_a_pooling_that_is_no_weighted_sum_is_refused(esm, tmp_path):
    with pytest.raises(StateshiftError, match="`max` can't be trained through ESM2's layers"):
        FrozenStates(tmp_path, 2, "max", esm.sha256, lambda: esm)


def test_gradients_reach_every_weight_of_the_layers(esm, protein_maker, tmp_path):
    states = FrozenStates(tmp_path, 2, "mean", esm.sha256, lambda: esm)
    states.ensure([protein_maker(17), protein_maker(30, seed=1)])
    layers = LastLayers.of(esm.network, 1)
    rows = [torch.from_numpy(states[text][0].rows) for text in (protein_maker(17), protein_maker(30, seed=1))]
    layers(rows)[0, :19].square().sum().backward()
    assert all(bool(p.grad.any()) for name, p in layers.named_parameters() if "norm.bias" not in name)
    assert not any(p.requires_grad for p in esm.network.parameters())


def test_more_layers_than_there_are_cannot_be_unfrozen(esm):
    with pytest.raises(StateshiftError, match="has 3 layers, of which 1 to 3 can be unfrozen"):
        LastLayers.of(esm.network, 4)
