from dataclasses import replace

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.training.config import compose_config
from stateshift.transition import TransitionConfig, TransitionModel
from stateshift.transition.backbone import SetAttention
from stateshift.transition.checkpoint import config_from

TINY = TransitionConfig(
    genes=7, features=3, hidden=8, layers=2, heads=2, ffn=16, set_size=5, encoder_layers=2, decoder_layers=2
)


def random_model(config: TransitionConfig) -> TransitionModel:
    torch.manual_seed(0)
    model = TransitionModel(config).eval()
    torch.nn.init.normal_(model.project_out[-1].weight)
    return model


def random_batch(B: int = 2, S: int = 5) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "ctrl_cell_emb": torch.rand(B, S, 7, generator=generator),
        "pert_emb": torch.randn(B, 3, generator=generator),
    }


@pytest.mark.parametrize("start", ["effect", "none"])
def test_permuting_the_cells_permutes_the_output(start):
    model, batch = random_model(replace(TINY, start=start)), random_batch()
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = {**batch, "ctrl_cell_emb": batch["ctrl_cell_emb"][:, order]}
    torch.testing.assert_close(model(permuted).cells, model(batch).cells[:, order], atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_for_the_real_cells():
    model, batch = random_model(TINY), random_batch()
    padded = {**batch, "ctrl_cell_emb": torch.cat([batch["ctrl_cell_emb"], torch.full((2, 3, 7), 9.0)], dim=1)}
    padded["mask"] = torch.arange(8).expand(2, 8) < 5
    torch.testing.assert_close(model(padded).cells[:, :5], model(batch).cells, atol=1e-5, rtol=1e-5)


def test_before_training_it_is_the_linear_effect_exactly_in_the_mean():
    model, batch = TransitionModel(TINY).eval(), random_batch()
    down, up = torch.randn(3, 2), torch.randn(2, 7) * 0.1
    model.set_start(down, up, torch.full((7,), 0.05))
    moved = model(batch).cells.mean(dim=1) - batch["ctrl_cell_emb"].mean(dim=1)
    effect = (batch["pert_emb"] @ down @ up + 0.05).maximum(-batch["ctrl_cell_emb"].mean(dim=1))
    torch.testing.assert_close(moved, effect, atol=1e-5, rtol=1e-5)


def test_what_a_cell_does_not_express_stays_zero_unless_the_effect_exceeds_the_mean():
    model, batch = random_model(TINY), random_batch()
    batch["ctrl_cell_emb"][:, :2] = 0
    up = torch.zeros(1, 7)
    up[0, 6] = 10.0
    model.set_start(torch.zeros(3, 1), up * 0, torch.tensor([0.1] * 6 + [10.0]))
    out = model(batch).cells
    assert (out[:, :2, :6] == 0).all()
    assert (out[:, :, 6] > 0).any()
    assert not torch.allclose(out[:, 2:], batch["ctrl_cell_emb"][:, 2:], atol=0.05)


def test_flat_batches_with_features_a_cell_give_the_same_as_sets():
    model, batch = random_model(TINY), random_batch()
    flat = {
        "ctrl_cell_emb": batch["ctrl_cell_emb"].reshape(10, 7),
        "pert_emb": batch["pert_emb"].repeat_interleave(5, dim=0),
    }
    torch.testing.assert_close(model(flat).cells, model(batch).cells)


def test_a_flat_batch_that_is_no_whole_number_of_sets_is_refused():
    with pytest.raises(StateshiftError, match="A flat batch of 7 cells is no whole number of sets of 5"):
        random_model(TINY)({"ctrl_cell_emb": torch.rand(7, 7), "pert_emb": torch.rand(7, 3)})


def test_features_that_differ_within_a_set_are_refused():
    with pytest.raises(StateshiftError, match="carry different perturbation features"):
        random_model(TINY)({"ctrl_cell_emb": torch.rand(10, 7), "pert_emb": torch.rand(10, 3)})


def test_attention_is_the_formula_worked_out_by_hand():
    attention = SetAttention(8, 2)
    h = torch.randn(1, 4, 8)
    q, k, v = (proj(h)[0].view(4, 2, 4) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
    heads = [torch.softmax(q[:, n] @ k[:, n].T / 2.0, dim=-1) @ v[:, n] for n in range(2)]
    torch.testing.assert_close(attention(h, None)[0], attention.o_proj(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize(
    ("preset", "hidden", "layers", "heads", "ffn", "set_size", "encoder_layers", "decoder_layers", "basal_mlp"),
    [
        ("state", 768, 8, 12, 3072, 512, 1, 1, True),
        ("state_sm", 672, 4, 8, 2688, 128, 4, 4, False),
        ("state_lg", 1488, 6, 12, 5952, 512, 4, 4, False),
    ],
)
def test_presets_have_the_published_shapes(
    preset, hidden, layers, heads, ffn, set_size, encoder_layers, decoder_layers, basal_mlp
):
    config = config_from(compose_config([f"model={preset}"])["model"], 100, 20, "log1p")
    published = TransitionConfig(
        100, 20, hidden, layers, heads, ffn, set_size, encoder_layers, decoder_layers, basal_mlp
    )
    assert config == published
    with torch.device("meta"):
        model = TransitionModel(config)
    backbone = sum(p.numel() for p in model.transformer_backbone.parameters())
    assert backbone == layers * (4 * hidden**2 + 3 * hidden * ffn + 2 * hidden) + hidden


def test_heads_that_do_not_divide_are_told_in_the_users_words():
    with pytest.raises(StateshiftError, match="model.heads=3 does not divide model.hidden=8"):
        replace(TINY, heads=3)


def test_numpy_and_torch_shift_alike():
    from stateshift.effects.shift import shift_population

    rng = np.random.default_rng(0)
    x, effect = rng.random((6, 5)), rng.standard_normal(5)
    ours = shift_population(x, effect, x.mean(axis=0))
    theirs = shift_population(torch.tensor(x), torch.tensor(effect), torch.tensor(x).mean(0))
    np.testing.assert_allclose(ours, theirs.numpy())
    np.testing.assert_allclose(ours.mean(axis=0), np.maximum(x.mean(axis=0) + effect, 0), atol=1e-12)
    assert ours.min() >= 0
