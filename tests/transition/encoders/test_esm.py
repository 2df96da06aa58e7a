import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.proteins.embedding.states import Window
from stateshift.proteins.esm2.last_layers import LastLayers
from stateshift.transition import TransitionConfig, TransitionModel

SHAPE = {
    "genes": 5, "features": 8, "hidden": 6, "layers": 1, "heads": 2, "ffn": 8, "set_size": 4, "encoder_layers": 2,
    "decoder_layers": 1, "start": "none",
}  # fmt: skip
TABLE = FeatureTable(["TP53", "KLF1", "MYC"], np.random.default_rng(0).standard_normal((3, 8)))


def model(encoder):
    torch.manual_seed(0)
    return TransitionModel(TransitionConfig(**SHAPE, encoder=encoder)).eval()


@pytest.fixture
def by_name():
    made = model("esm")
    made.pert_encoder.hold(TABLE, "non-targeting")
    return made


def test_a_forward_pass_takes_names_where_a_table_encoder_takes_vectors(by_name):
    x = torch.rand(4, 4, 5)
    names = ["TP53", "MYC+TP53", "non-targeting", "TP53+MYC"]
    vectors = np.concatenate([TABLE.matrix(names[:2]), np.zeros((1, 8), np.float32), TABLE.matrix(names[3:])])
    expected = model("table")({"ctrl_cell_emb": x, "pert_emb": torch.from_numpy(vectors)}).cells
    made = by_name({"ctrl_cell_emb": x, "pert_name": names}).cells
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
    assert not torch.allclose(made[0], made[1])


def test_a_flat_batch_names_the_perturbation_of_each_cell(by_name):
    x = torch.rand(2, 4, 5)
    by_set = by_name({"ctrl_cell_emb": x, "pert_name": ["TP53", "MYC"]}).cells
    flat = {"ctrl_cell_emb": x.flatten(0, 1), "pert_name": ["TP53"] * 4 + ["MYC"] * 4}
    torch.testing.assert_close(by_name(flat).cells, by_set)
    with pytest.raises(StateshiftError, match="Cells of one set carry different perturbations"):
        by_name(flat | {"pert_name": ["TP53", "MYC"] * 4})


def test_a_gene_without_a_vector_is_refused_with_a_near_miss(by_name):
    with pytest.raises(StateshiftError, match=r"holds no vector of TP52 \(did you mean `TP53`\?\)"):
        by_name({"ctrl_cell_emb": torch.rand(1, 4, 5), "pert_name": ["TP52"]})


def test_genes_that_join_later_change_no_weight(by_name):
    before = {name: value.clone() for name, value in by_name.state_dict().items()}
    x = torch.rand(1, 4, 5)
    first = by_name({"ctrl_cell_emb": x, "pert_name": ["MYC"]}).cells
    more = FeatureTable(["NEW", *TABLE.genes], np.concatenate([np.ones((1, 8)), TABLE.vectors]))
    by_name.pert_encoder.hold(more, "non-targeting")
    torch.testing.assert_close(by_name({"ctrl_cell_emb": x, "pert_name": ["MYC"]}).cells, first)
    after = by_name.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def unfrozen(by_name):
    """Layers over a protein of TP53 in two windows, and of KLF1 in one; MYC has none."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)

    def window(length, share):
        return Window(rng.standard_normal((length, 8)).astype(np.float32), np.full(length, share, np.float32))

    windows = {"TP53": [window(7, 0.1), window(3, 0.1)], "KLF1": [window(5, 0.2)]}
    by_name.pert_encoder.unfreeze(LastLayers(1, 8, 2))
    by_name.pert_encoder.read_states(windows.get)
    return by_name.pert_encoder, windows


def encoded(encoder, names):
    return encoder({"pert_name": names}, torch.zeros(len(names), 8), torch.zeros(len(names), 4, 6), None)


def test_each_gene_of_a_batch_goes_once_through_the_unfrozen_layers(unfrozen):
    encoder, _ = unfrozen
    passed = []
    encoder.last_layers.register_forward_pre_hook(lambda _, given: passed.append(len(given[0])))
    encoded(encoder, ["TP53", "KLF1", "TP53+KLF1", "non-targeting", "TP53"])
    assert passed == [3]


def test_windows_of_a_protein_are_summed_by_their_weights_and_a_gene_without_one_has_its_vector(unfrozen):
    encoder, windows = unfrozen
    given = []
    encoder.get_submodule("0").register_forward_pre_hook(lambda _, x: given.append(x[0].detach()))
    encoded(encoder, ["TP53+MYC", "KLF1", "non-targeting"])
    alone = [
        torch.from_numpy(w.weights) @ encoder.last_layers([torch.from_numpy(w.rows)])[0]
        for gene in ("TP53", "KLF1")
        for w in windows[gene]
    ]
    expected = torch.stack([alone[0] + alone[1] + torch.from_numpy(TABLE.matrix(["MYC"])[0]), alone[2], torch.zeros(8)])
    torch.testing.assert_close(given[0], expected.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("names", "moved"), [(["TP53"], True), (["non-targeting"], False), (["MYC"], False)])
def test_every_weight_has_a_gradient_though_a_batch_may_not_need_it(unfrozen, names, moved):
    encoder, _ = unfrozen
    encoded(encoder, names).square().sum().backward()
    gradients = [p.grad for p in encoder.last_layers.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients) == moved
