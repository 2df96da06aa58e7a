"""A trained model's weights go to their places in a new one, by the names of genes, features and batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.transition import TransitionConfig, TransitionModel
from stateshift.transition.fine_tuning.source import Source
from stateshift.transition.fine_tuning.transfer import Transfer, transfer_weights

GENES = [f"GENE{i}" for i in range(16)]
SHAPE = TransitionConfig(
    genes=16, features=5, hidden=8, layers=2, heads=2, ffn=12, set_size=4, encoder_layers=2, decoder_layers=2,
    start="none", dropout=0.0,
)  # fmt: skip


def made(seed=0, **options) -> TransitionModel:
    torch.manual_seed(seed)
    return TransitionModel(replace(SHAPE, **{"output_space": None, "relu": None, **options})).eval()


def table(genes="ABC", width=5, seed=0, source="esm2", model="t6") -> FeatureTable:
    vectors = np.random.default_rng(seed).standard_normal((len(genes), width))
    return FeatureTable(list(genes), vectors, {"source": source, "model": model})


def trained(genes=GENES, every=(), batches=(), features=None, scale="log1p_1e4", **options) -> Source:
    options = {"genes": len(genes) if genes else 16, "every_gene": len(every), "batches": len(batches), **options}
    return Source(
        Path("runs/old"), Path("runs/old/checkpoints/best.ckpt"), made(**options), "tiny", scale,
        genes and list(genes), list(every), list(batches), table() if features is None else features or None,
    )  # fmt: skip


def given(source, model, genes=GENES, every=(), batches=(), features=None, scale="log1p_1e4") -> Transfer:
    return transfer_weights(
        source, model, genes=list(genes), every_gene=list(every), batches=list(batches),
        features=features or table(), scale=scale,
    )  # fmt: skip


def states(transfer) -> dict[str, tuple[str, str]]:
    return {part.name: (part.state, part.how) for part in transfer.parts}


def batch(n_genes, seed=3, **more) -> dict:
    draw = torch.Generator().manual_seed(seed)
    return {
        "ctrl_cell_emb": torch.rand(2, 4, n_genes, generator=draw),
        "pert_emb": torch.randn(2, 5, generator=draw),
        **more,
    }


def test_the_same_genes_and_features_give_the_same_model():
    source, model = trained(), made(1)
    transfer = given(source, model)
    assert set(transfer.kept()) == {"pert_encoder", "basal_encoder", "transformer_backbone", "project_out"}
    for name, value in source.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert transfer.notes == ()


def test_a_permuted_gene_list_gives_the_same_cells_in_its_order():
    source, order = trained(), np.random.default_rng(2).permutation(16)
    model = made(1)
    transfer = given(source, model, genes=[GENES[i] for i in order])
    assert states(transfer)["basal_encoder"] == ("kept", "16 of 16 genes")
    one = batch(16)
    other = {**one, "ctrl_cell_emb": one["ctrl_cell_emb"][..., order]}
    torch.testing.assert_close(model(other).cells, source.model(one).cells[..., order], atol=1e-6, rtol=0)
    assert source.model(one).cells.std() > 0.05


def test_new_genes_are_not_read_until_they_are_trained_and_shared_ones_keep_their_weights_to_the_bit():
    source, model = trained(), made(1, genes=18)
    genes = ["NEW1", *GENES[::-1], "NEW2"]
    transfer = given(source, model, genes=genes)
    assert states(transfer)["basal_encoder"] == ("partly", "16 of 18 genes")
    assert states(transfer)["project_out"] == ("partly", "16 of 18 genes")
    old, new = source.model.state_dict(), model.state_dict()
    assert torch.equal(new["project_out.3.weight"][1:17], old["project_out.3.weight"].flip(0))
    assert torch.equal(new["project_out.3.bias"][1:17], old["project_out.3.bias"].flip(0))
    assert torch.equal(new["basal_encoder.0.weight"][:, 1:17], old["basal_encoder.0.weight"].flip(1))
    assert new["basal_encoder.0.weight"][:, [0, 17]].abs().sum() == 0
    fresh = made(1, genes=18).state_dict()["project_out.3.weight"]
    assert torch.equal(new["project_out.3.weight"][[0, 17]], fresh[[0, 17]])
    cells = batch(18)
    before = source.model({**cells, "ctrl_cell_emb": cells["ctrl_cell_emb"][..., 1:17].flip(-1)}).cells
    torch.testing.assert_close(model(cells).cells[..., 1:17], before.flip(-1), atol=1e-6, rtol=0)
    model(cells).cells.sum().backward()
    assert (model.basal_encoder[0].weight.grad[:, [0, 17]] != 0).any()


def test_genes_of_the_source_alone_are_told():
    transfer = given(trained(), made(1, genes=8), genes=GENES[:8])
    assert transfer.notes == ("8 of the source's 16 genes are not among the cells' and are left out.",)


def test_no_gene_in_common_is_refused_with_names_of_both():
    with pytest.raises(StateshiftError, match=r"share no gene: it has GENE0, GENE1, .* they have ENSG0, ENSG1"):
        given(trained(), made(1), genes=[f"ENSG{i}" for i in range(16)])


def test_a_source_without_gene_names_is_taken_in_order_where_the_width_agrees_and_refused_where_it_does_not():
    source, model = trained(genes=None), made(1)
    transfer = given(source, model)
    assert "names no genes: its 16 are taken for the cells' in their order" in transfer.notes[0]
    assert torch.equal(model.basal_encoder[0].weight, source.model.basal_encoder[0].weight)
    with pytest.raises(
        StateshiftError,
        match=r"names no genes, and has 16 where the cells have 18: put the var_dims.pkl .* into runs/old",
    ):
        given(source, made(1, genes=18), genes=[*GENES, "X", "Y"])


@pytest.mark.parametrize(
    ("theirs", "ours", "state", "how"),
    [
        (table(), table("BCD", seed=0), "re-made", "the vectors of 0 of 2 genes in both tables are the same"),
        (table("ABCD"), table("ABCD").subset("CA"), "kept", "the vectors of 2 of 2 genes in both tables are the same"),
        (table(), table(width=7), "re-made", "7 features in place of 5"),
        (table(), table("XYZ"), "kept", "features of the same width; no gene is in both tables to compare"),
        (table(), table("XYZ", model="t33"), "re-made", "features of esm2 t33 in place of esm2 t6"),
        (table(), table("XYZ", source="onehot"), "re-made", "one-hot features of other genes"),
        (
            table("ABCD", source="onehot"),
            table("ABCD", source="onehot").subset("CA"),
            "kept",
            "the vectors of 2 of 2 genes in both tables are the same",
        ),
        (
            table("ABCD", source="onehot"),
            FeatureTable(list("ABNM"), table("ABCD").vectors, {"source": "onehot"}),
            "re-made",
            "one-hot features of other genes",
        ),
        (False, table(), "kept", "features of the same width; no vectors lie beside the source to compare"),
    ],
)
def test_the_perturbation_encoder_is_kept_where_the_features_are_the_same(theirs, ours, state, how):
    source, model = trained(features=theirs), made(1, features=ours.width)
    before = model.pert_encoder[0].weight.clone()
    assert states(given(source, model, features=ours))["pert_encoder"] == (state, how)
    assert torch.equal(model.pert_encoder[0].weight, source.model.pert_encoder[0].weight if state == "kept" else before)


def test_batches_are_matched_by_name_and_new_ones_start_at_the_mean():
    source = trained(batches=["a", "b", "c"], batch_encoder=True)
    model = made(1, batches=3, batch_encoder=True)
    transfer = given(source, model, batches=["b", "new", "a"])
    assert states(transfer)["batch_encoder"] == ("partly", "2 of 3 batches")
    old = source.model.batch_encoder.weight
    torch.testing.assert_close(model.batch_encoder.weight, torch.stack([old[1], old.mean(0), old[0]]))


def test_tokens_are_kept_and_the_batch_classifier_goes_by_name():
    options = {"batch_token": True, "confidence_token": True}
    source, model = trained(batches=["a", "b"], **options), made(1, batches=2, **options)
    parts = states(given(source, model, batches=["b", "a"]))
    assert parts["batch_token"] == ("kept", "2 of 2 batches")
    assert parts["confidence_token"] == ("kept", "")
    assert torch.equal(model.batch_token.classifier.weight, source.model.batch_token.classifier.weight.flip(0))


def test_an_option_that_the_source_lacks_is_made_anew():
    parts = states(given(trained(), made(1, confidence_token=True)))
    assert parts["confidence_token"] == ("re-made", "the source has none")


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ({}, {"start": "effect"}, "model.start=effect in place of none"),
        ({"start": "effect"}, {}, "model.start=none in place of effect"),
        ({"output_space": "all"}, {}, "model.output_space=gene in place of all"),
        ({}, {"predict_residual": False}, "model.predict_residual=False in place of True"),
    ],
)
def test_an_output_that_means_something_else_is_made_anew(theirs, ours, why):
    source, model = trained(**theirs), made(1, **ours)
    last = model.project_out[3].weight.clone()
    state, how = states(given(source, model))["project_out"]
    assert (state, how) == ("partly", why)
    assert torch.equal(model.project_out[3].weight, last)
    assert torch.equal(model.project_out[0].weight, source.model.project_out[0].weight)


def test_a_bottleneck_is_placed_by_genes():
    source, model = trained(output_space="all"), made(1, output_space="all")
    assert states(given(source, model, genes=GENES[::-1]))["bottleneck"] == ("kept", "16 of 16 genes")
    one = batch(16)
    other = {**one, "ctrl_cell_emb": one["ctrl_cell_emb"].flip(-1)}
    torch.testing.assert_close(model(other).cells, source.model(one).cells.flip(-1), atol=1e-6, rtol=0)


def test_from_an_embedding_to_genes_the_transformer_is_kept_and_both_ends_are_made_anew():
    source = trained(genes=[f"X_pca_{i}" for i in range(10)], scale="embedding", space="embedding")
    model = made(1)
    parts = states(given(source, model))
    assert parts["transformer_backbone"] == ("kept", "")
    assert parts["basal_encoder"] == ("partly", "the source's cells are an embedding of 10 dimensions")
    assert parts["project_out"] == ("partly", "the source gives an embedding of 10 dimensions")


MORE = [*GENES, *(f"MORE{i}" for i in range(8))]


def test_a_model_of_some_genes_goes_on_to_predict_every_gene():
    source, model = trained(), made(1, every_gene=24, output_space="all")
    parts = states(given(source, model, every=MORE[::-1]))
    assert parts["basal_encoder"] == ("kept", "16 of 16 genes")
    assert parts["project_out"] == ("partly", "16 of 24 genes")
    old, new = source.model.project_out[3], model.project_out[3]
    assert torch.equal(new.weight[8:], old.weight.flip(0))
    assert torch.equal(new.bias[8:], old.bias.flip(0))


@pytest.mark.parametrize("start", ["none", "effect"])
def test_a_gene_decoder_is_placed_by_every_gene(start):
    options = {"output_space": "all", "gene_decoder": True, "gene_decoder_widths": (6, 5), "start": start}
    source, model = trained(every=MORE, **options), made(1, every_gene=24, **options)
    torch.nn.init.normal_(source.model.gene_decoder[8].weight)
    transfer = given(source, model, every=["NEW", *MORE[:0:-1]])
    assert states(transfer)["gene_decoder"] == ("partly", "16 of 16 genes; 23 of 24 genes")
    assert torch.equal(model.gene_decoder[8].weight[1:], source.model.gene_decoder[8].weight[1:].flip(0))
    assert torch.equal(model.gene_decoder[4].weight, source.model.gene_decoder[4].weight)


def test_from_an_embedding_that_gave_every_gene_the_projection_is_kept():
    pca = [f"X_pca_{i}" for i in range(10)]
    options = {"space": "embedding", "output_space": "all"}
    source, model = trained(genes=pca, every=GENES, scale="embedding", **options), made(1)
    parts = states(given(source, model))
    assert parts["basal_encoder"][0] == "partly"
    assert parts["project_out"] == ("kept", "16 of 16 genes")


def test_an_embedding_is_the_same_by_its_name_and_width():
    pca = [f"X_pca_{i}" for i in range(10)]
    for names, state in ((pca, "kept"), ([f"X_scvi_{i}" for i in range(10)], "partly")):
        source, model = trained(genes=pca, scale="embedding", space="embedding"), made(1, genes=10, space="embedding")
        transfer = given(source, model, genes=names, scale="embedding")
        assert states(transfer)["basal_encoder"][0] == state


def started(model: TransitionModel, seed: int) -> TransitionModel:
    draw = torch.Generator().manual_seed(seed)
    n = model.config.width
    model.set_start(*(torch.randn(*shape, generator=draw) for shape in ((5, 2), (2, n), (n,))))
    return model


def test_the_sources_linear_start_goes_to_its_genes_and_says_nothing_of_new_ones():
    source, model = trained(start="effect"), made(1, genes=17, start="effect")
    old = started(source.model, 0)
    assert given(source, model, genes=["NEW", *GENES[::-1]]).notes == ()
    assert torch.equal(model.effect_down, old.effect_down)
    assert torch.equal(model.effect_up[:, 1:], old.effect_up.flip(1))
    assert torch.equal(model.effect_intercept[1:], old.effect_intercept.flip(0))
    assert model.effect_up[:, 0].abs().sum() == model.effect_intercept[0] == 0
    assert model.effect_down.data_ptr() != old.effect_down.data_ptr()


def test_a_linear_start_of_other_features_or_outputs_is_left_out_and_that_is_told():
    source, model = trained(start="effect"), made(1, start="effect")
    started(source.model, 0)
    transfer = given(source, model, features=table("BCD"))
    assert transfer.notes == ("The source's linear start is left out: it is of other features.",)
    assert model.effect_up.shape == (0, 16)
    pca = [f"X_pca_{i}" for i in range(16)]
    source = trained(genes=pca, scale="embedding", space="embedding", start="effect")
    assert given(source, model).notes == ("The source's linear start is left out: it is of other outputs.",)


def test_cells_on_another_scale_are_told():
    assert given(trained(scale="log1p_1e6"), made(1)).notes == (
        "The source was trained on log1p_1e6 and these cells are log1p_1e4.",
    )
    assert given(trained(scale="log1p"), made(1)).notes == ()


def test_a_transfer_is_written_and_read():
    transfer = given(trained(), made(1, genes=8), genes=GENES[:8])
    assert Transfer.from_dict(transfer.as_dict()) == transfer
