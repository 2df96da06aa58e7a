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
OPTIONS = {
    "plain": PLAIN,
    "effect": replace(PLAIN, start="effect"),
    "all": replace(PLAIN, output_space="all"),
    "all from the effect": replace(PLAIN, output_space="all", start="effect"),
    "all by a decoder": replace(PLAIN, output_space="all", gene_decoder=30, gene_decoder_widths=(8, 6)),
    "embedding": EMBEDDING,
    "embedding to genes": replace(EMBEDDING, output_space="gene", gene_decoder=30, gene_decoder_widths=(8, 6)),
    "embedding to genes from the effect": replace(
        EMBEDDING, output_space="gene", gene_decoder=30, gene_decoder_widths=(8, 6), start="effect"
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
        model.set_start(torch.randn(3, 2), torch.randn(2, 16), torch.randn(16))
    return model


def random_batch(B: int = 2, S: int = 5) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "ctrl_cell_emb": torch.rand(B, S, 16, generator=generator) * 2,
        "pert_emb": torch.randn(B, 3, generator=generator),
        "batch": torch.randint(3, (B, S), generator=generator),
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
        "mask": torch.arange(8).expand(2, 8) < 5,
    }
    with torch.inference_mode():
        assert largest_difference(first_cells(model(padded), 5), model(batch)) < 1e-5


@pytest.mark.parametrize("name", [n for n, c in OPTIONS.items() if not (c.batch_token or c.confidence_token)])
def test_repeating_a_set_four_fold_changes_nothing(name):
    model, batch = random_model(OPTIONS[name]), random_batch()
    repeated = {"ctrl_cell_emb": batch["ctrl_cell_emb"].repeat(1, 4, 1), "pert_emb": batch["pert_emb"]}
    repeated["batch"] = batch["batch"].repeat(1, 4)
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


@pytest.mark.parametrize("name", ["all from the effect", "effect", "embedding to genes from the effect"])
def test_before_training_the_effect_start_is_the_linear_effect_alone(name):
    torch.manual_seed(0)
    model, batch = TransitionModel(OPTIONS[name]).eval(), random_batch()
    up = torch.randn(2, 16) * 0.1
    model.set_start(torch.ones(3, 2), up, torch.full((16,), 0.05))
    moved = model(batch).cells.mean(dim=1) - batch["ctrl_cell_emb"].mean(dim=1)
    effect = batch["pert_emb"] @ torch.ones(3, 2) @ up + 0.05
    if model.config.space == "expression":
        effect = effect.maximum(-batch["ctrl_cell_emb"].mean(dim=1))
    torch.testing.assert_close(moved, effect, atol=1e-5, rtol=1e-5)


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
        ({"space": "embedding", "output_space": "gene"}, "become genes by a decoder alone"),
        ({"gene_decoder": 30}, "model.gene_decoder=30 would stand idle"),
        ({"space": "embedding", "gene_decoder": 30}, "model.gene_decoder=30 would stand idle"),
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
