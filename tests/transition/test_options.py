from dataclasses import replace

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.transition import TransitionConfig, TransitionModel
from stateshift.transition.losses.heads import batch_token_loss, confidence_loss

PLAIN = TransitionConfig(
    genes=16,
    features=3,
    hidden=8,
    layers=2,
    heads=2,
    ffn=16,
    set_size=5,
    encoder_layers=2,
    decoder_layers=2,
    start="none",
)
EMBEDDING = replace(PLAIN, space="embedding", output_space=None, relu=None)
DECODED = {"every_gene": 30, "gene_decoder": True, "gene_decoder_widths": (8, 6)}
OPTIONS = {
    "plain": PLAIN,
    "effect": replace(PLAIN, start="effect"),
    "all": replace(PLAIN, output_space="all"),
    "all from the effect": replace(PLAIN, output_space="all", start="effect"),
    "all by a decoder": replace(PLAIN, output_space="all", **DECODED),
    "all by a decoder from the effect": replace(PLAIN, output_space="all", **DECODED, start="effect"),
    "all by the projection": replace(PLAIN, output_space="all", every_gene=30),
    "all by the projection from the effect": replace(PLAIN, output_space="all", every_gene=30, start="effect"),
    "embedding": EMBEDDING,
    "embedding to genes": replace(EMBEDDING, output_space="gene", **DECODED),
    "embedding to genes from the effect": replace(EMBEDDING, output_space="gene", **DECODED, start="effect"),
    "embedding to all by the projection": replace(
        EMBEDDING, output_space=None, relu=None, every_gene=30, start="effect"
    ),
    "batch encoder": replace(PLAIN, batch_encoder=True, batches=3),
    "batch token": replace(PLAIN, batch_token=True, batches=3),
    "confidence": replace(PLAIN, confidence_token=True),
    "both tokens from the effect": replace(PLAIN, batch_token=True, batches=3, confidence_token=True, start="effect"),
    "mask_attn": replace(PLAIN, mask_attn=True),
    "mask_attn with batches": replace(PLAIN, mask_attn=True, batch_encoder=True, batches=3),
}


def random_model(config: TransitionConfig) -> TransitionModel:
    """Weights of size one, so that nothing is small enough to hide."""
    torch.manual_seed(0)
    model = TransitionModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if config.start == "effect":
        model.set_start(torch.randn(3, 2), torch.randn(2, config.width), torch.randn(config.width))
        if config.gene_decoder:
            model.set_gene_start(torch.randn(2, 30), torch.randn(30))
    return model


def random_batch(B: int = 2, S: int = 5) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "ctrl_cell_emb": torch.rand(B, S, 16, generator=generator) * 2,
        "pert_emb": torch.randn(B, 3, generator=generator),
        "batch": torch.randint(3, (B, S), generator=generator),
        "ctrl_cell_counts": torch.rand(B, S, 30, generator=generator).sub(0.3).clamp(min=0),
    }


def largest_difference(a, b) -> float:
    """Over everything that two outputs give."""
    return max(float((x - y).abs().max()) for x, y in zip(a, b) if x is not None)


def first_cells(output, n: int):
    return output._replace(cells=output.cells[:, :n], genes=None if output.genes is None else output.genes[:, :n])


@pytest.mark.parametrize("name", OPTIONS)
def test_padding_with_a_mask_changes_nothing(name):
    model, batch = random_model(OPTIONS[name]), random_batch()
    padded = {
        "ctrl_cell_emb": torch.cat([batch["ctrl_cell_emb"], torch.full((2, 3, 16), 9.0)], dim=1),
        "pert_emb": batch["pert_emb"],
        "batch": torch.cat([batch["batch"], torch.zeros(2, 3, dtype=torch.long)], dim=1),
        "ctrl_cell_counts": torch.cat([batch["ctrl_cell_counts"], torch.full((2, 3, 30), 9.0)], dim=1),
        "mask": torch.arange(8).expand(2, 8) < 5,
    }
    with torch.inference_mode():
        assert largest_difference(first_cells(model(padded), 5), model(batch)) < 1e-5


@pytest.mark.parametrize("name", [n for n, c in OPTIONS.items() if not (c.batch_token or c.confidence_token)])
def test_repeating_a_set_four_fold_changes_nothing(name):
    model, batch = random_model(OPTIONS[name]), random_batch()
    repeated = {key: batch[key].repeat(1, 4, 1) for key in ("ctrl_cell_emb", "ctrl_cell_counts")}
    repeated |= {"pert_emb": batch["pert_emb"], "batch": batch["batch"].repeat(1, 4)}
    with torch.inference_mode():
        assert largest_difference(first_cells(model(repeated), 5), model(batch)) < 1e-5


@pytest.mark.parametrize("name", ["mask_attn", "mask_attn with batches"])
def test_mask_attn_predicts_a_cell_whatever_its_companions(name):
    model, batch = random_model(OPTIONS[name]), random_batch()
    alone = {key: value[:, :1] if value.dim() > 1 and key != "pert_emb" else value for key, value in batch.items()}
    with torch.inference_mode():
        together = model(batch).cells
        assert largest_difference([model(alone).cells], [together[:, :1]]) < 1e-6
        mixing = random_model(replace(OPTIONS[name], mask_attn=False))
        assert largest_difference([mixing(alone).cells], [mixing(batch).cells[:, :1]]) > 1e-3


@pytest.mark.parametrize("name", OPTIONS)
def test_every_parameter_gets_a_gradient(name):
    model, batch = random_model(OPTIONS[name]), random_batch()
    output = model(batch)
    loss = (output.cells - 1).square().mean()
    if output.genes is not None:
        loss = loss + (output.genes - 1).square().mean()
    if output.confidence is not None:
        loss = loss + (output.confidence - 1).square().mean() + output.confidence.mean()
    if output.batch_logits is not None:
        loss = loss + batch_token_loss(output.batch_logits, batch["batch"]).mean()
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("name", [name for name, config in OPTIONS.items() if config.start == "effect"])
def test_before_training_the_effect_start_is_the_linear_effect_alone(name):
    torch.manual_seed(0)
    config, batch = OPTIONS[name], random_batch()
    model = TransitionModel(config).eval()
    up, gene_up = torch.randn(2, config.width) * 0.1, torch.randn(2, 30) * 0.1
    model.set_start(torch.ones(3, 2), up, torch.full((config.width,), 0.05))
    if config.gene_decoder:
        model.set_gene_start(gene_up, torch.full((30,), 0.05))
    output, factors = model(batch), batch["pert_emb"] @ torch.ones(3, 2)
    starts = {"cells": ("ctrl_cell_counts" if config.projects_every_gene else "ctrl_cell_emb", up)}
    if config.gene_decoder:
        starts["genes"] = ("ctrl_cell_counts", gene_up)
    for name_of_output, (control, up) in starts.items():
        start = batch[control].mean(dim=1)
        effect = factors @ up + 0.05
        if control == "ctrl_cell_counts" or config.space == "expression":
            effect = effect.maximum(-start)
        moved = getattr(output, name_of_output).mean(dim=1) - start
        torch.testing.assert_close(moved, effect, atol=1e-5, rtol=1e-5)


def test_sets_that_nobody_perturbed_have_no_start_of_any_gene():
    for name in ("all by a decoder from the effect", "all by the projection from the effect"):
        model, batch = TransitionModel(OPTIONS[name]).eval(), random_batch()
        model.set_start(torch.ones(3, 2), torch.ones(2, model.config.width), torch.ones(model.config.width))
        if model.config.gene_decoder:
            model.set_gene_start(torch.ones(2, 30), torch.ones(30))
        output = model({**batch, "is_control": torch.tensor([True, False])})
        genes = output.cells if output.genes is None else output.genes
        torch.testing.assert_close(genes[0], batch["ctrl_cell_counts"][0])
        assert (genes[1] - batch["ctrl_cell_counts"][1]).abs().mean() > 0.1


def test_what_the_network_adds_to_every_gene_is_nothing_where_a_gene_is_silent_and_never_below_zero():
    for name in ("all by a decoder from the effect", "all by the projection from the effect"):
        model, batch = random_model(OPTIONS[name]), random_batch()
        for buffer in ("effect_up", "effect_intercept", "gene_effect_up", "gene_effect_intercept"):
            if hasattr(model, buffer):
                getattr(model, buffer).zero_()
        output = model(batch)
        genes, silent = output.cells if output.genes is None else output.genes, batch["ctrl_cell_counts"] == 0
        assert silent.any()
        assert (genes[silent] == 0).all()
        assert genes.min() == 0
        assert not torch.allclose(genes, batch["ctrl_cell_counts"], atol=0.1)


def test_a_model_of_every_gene_asks_for_the_controls_every_gene():
    batch = random_batch()
    del batch["ctrl_cell_counts"]
    with pytest.raises(StateshiftError, match="predicts every gene, and these cells carry no `ctrl_cell_counts`"):
        random_model(OPTIONS["all by the projection from the effect"])(batch)


def test_batches_count_and_come_as_numbers_or_one_hot_in_either_layout():
    model, batch = random_model(OPTIONS["batch encoder"]), random_batch()
    expected = model(batch).cells
    assert not torch.allclose(model({**batch, "batch": (batch["batch"] + 1) % 3}).cells, expected, atol=1e-3)
    one_hot = torch.nn.functional.one_hot(batch["batch"], 3)
    flat = {
        "ctrl_cell_emb": batch["ctrl_cell_emb"].flatten(0, 1),
        "pert_emb": batch["pert_emb"].repeat_interleave(5, 0),
    }
    for labels in (batch["batch"].flatten(), one_hot.flatten(0, 1), one_hot.flatten(0, 1).float()):
        torch.testing.assert_close(model({**flat, "batch": labels}).cells, expected)
    torch.testing.assert_close(model({**batch, "batch": one_hot}).cells, expected)


def test_cells_without_a_batch_are_refused_by_a_model_that_needs_it():
    batch = random_batch()
    del batch["batch"]
    with pytest.raises(StateshiftError, match="tells batches apart, and these cells carry no `batch`"):
        random_model(OPTIONS["batch encoder"])(batch)


def test_the_batch_token_is_scored_by_cross_entropy_with_the_sets_batches():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    batch_BS = torch.tensor([[0, 0, 2], [1, 2, 2]])
    mask_BS = torch.tensor([[True, True, False], [True, True, True]])
    log_p = torch.log_softmax(logits, dim=1)
    expected = -torch.stack([log_p[0, 0], (log_p[1, 1] + 2 * log_p[1, 2]) / 3])
    torch.testing.assert_close(batch_token_loss(logits, batch_BS, mask_BS), expected)


def test_the_confidence_token_learns_ten_times_the_sets_loss_and_leaves_the_loss_alone():
    expected, losses = torch.tensor([3.0, 5.0], requires_grad=True), torch.tensor([0.2, 0.6], requires_grad=True)
    loss = confidence_loss(expected, losses)
    torch.testing.assert_close(loss, torch.tensor([1.0, 1.0]))
    loss.sum().backward()
    assert losses.grad is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"output_space": "embedding"}, "model.output_space=embedding: the cells are expression"),
        ({"output_space": "genes"}, r"model.output_space=genes \(did you mean `gene`\?\)"),
        ({"space": "embedding", "output_space": "gene"}, "become genes by model.gene_decoder=true or"),
        ({"space": "embedding", "output_space": "all"}, "the embedding's files hold no genes to predict"),
        ({"gene_decoder": True, "output_space": "all"}, "there is nothing to decode"),
        ({"gene_decoder": 30}, "model.gene_decoder=30 has to be true or false"),
        ({"gene_decoder": True, "every_gene": 30}, "model.gene_decoder=true would stand idle"),
        (
            {"space": "embedding", "gene_decoder": True, "every_gene": 30, "output_space": "embedding"},
            "model.gene_decoder=true would stand idle",
        ),
        ({"output_space": "all", "predict_residual": False}, "is the same as gene: say gene"),
        ({"output_space": "all", "genes": 7}, "needs at least 8 genes for its bottleneck"),
        ({"relu": False}, "model.relu=false would predict negative expression"),
        ({"relu": True, "space": "embedding", "start": "effect"}, "would cut negative values off"),
        ({"batch_encoder": True, "batch_token": True, "batches": 2}, "together: a token learns nothing"),
        ({"batch_token": True}, "model.batch_token=true: the data name no batches"),
        ({"mask_attn": True, "confidence_token": True}, "model.confidence_token would see no cell"),
        ({"mask_attn": "yes"}, "model.mask_attn=yes has to be true or false"),
        ({"gene_decoder_widths": [8, 0]}, "model.gene_decoder_widths=0 has to be a whole number"),
    ],
)
def test_options_that_contradict_each_other_are_refused_in_words(options, sentence):
    shape = {"genes": 16, "features": 3, "hidden": 8, "layers": 1, "heads": 2, "ffn": 8, "set_size": 5}
    shape |= {"encoder_layers": 1, "decoder_layers": 1, "start": "none"}
    with pytest.raises(StateshiftError, match=sentence):
        TransitionConfig(**{**shape, **options})
