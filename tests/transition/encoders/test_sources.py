"""A token a source: who is masked, what is pooled, and what a set without sources gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.transition import TransitionConfig
from stateshift.transition.encoders import SourceEncoder, make_encoder
from stateshift.transition.encoders.sources import source_widths

SHAPE = TransitionConfig(
    genes=6, features=7, hidden=8, layers=1, heads=2, ffn=8, set_size=4, encoder_layers=2, decoder_layers=1,
    encoder="sources", source_widths=(3, 2, 2), dropout=0.0,
)  # fmt: skip


def made(**options) -> SourceEncoder:
    torch.manual_seed(0)
    return make_encoder(replace(SHAPE, **options)).eval()


def drawn(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 7, generator=generator), torch.randn(5, 4, 8, generator=generator)


def test_values_of_masked_tokens_do_not_matter():
    encoder = made()
    tokens, other = torch.randn(4, 5, 8), torch.randn(4, 5, 8) * 100
    attend = torch.tensor([[1, 0, 1, 0, 1], [0, 0, 0, 1, 1], [1, 1, 1, 0, 1], [0, 1, 0, 0, 1]], dtype=torch.bool)
    changed = torch.where(attend[..., None], tokens, other)
    assert torch.equal(encoder._pool(tokens, attend), encoder._pool(changed, attend))
    assert not torch.equal(encoder._pool(tokens, attend), encoder._pool(other, attend))


def test_a_source_that_lacks_the_gene_is_left_out_of_the_attention():
    encoder, (p_BF, basal_BSH) = made(), drawn()
    p_BF[:, 3:5] = 0
    before = encoder({}, p_BF, basal_BSH, None)
    torch.nn.init.normal_(encoder.projections[1].weight)
    torch.nn.init.normal_(encoder.projections[1].bias, std=10)
    assert torch.equal(encoder({}, p_BF, basal_BSH, None), before)
    torch.nn.init.normal_(encoder.projections[0].bias, std=10)
    assert not torch.equal(encoder({}, p_BF, basal_BSH, None), before)


def test_a_learnt_token_stands_in_only_where_no_source_knows_the_gene():
    encoder, (p_BF, basal_BSH) = made(), drawn()
    p_BF[2:] = 0
    before = encoder({}, p_BF, basal_BSH, None)
    with torch.no_grad():
        encoder.missing += 3 * torch.randn(8)
    after = encoder({}, p_BF, basal_BSH, None)
    assert torch.equal(after[:2], before[:2])
    assert (after[2:] != before[2:]).any(dim=1).all()


def test_the_context_is_read_from_the_real_control_cells():
    encoder, (p_BF, basal_BSH) = made(), drawn()
    mask = torch.arange(4).expand(5, 4) < 3
    padded = basal_BSH.clone()
    padded[:, 3] = 99
    assert torch.equal(encoder({}, p_BF, padded, mask), encoder({}, p_BF, padded.where(mask[..., None], 0), mask))
    assert not torch.allclose(encoder({}, p_BF, basal_BSH, None), encoder({}, p_BF, basal_BSH + 1, None))


def test_sets_that_nobody_perturbed_are_encoded_as_zero():
    encoder, (p_BF, basal_BSH) = made(), drawn()
    batch = {"is_control": torch.tensor([True, False, False, True, False])}
    assert (encoder(batch, p_BF, basal_BSH, None) != 0).any(dim=1).tolist() == [False, True, True, False, True]


def test_source_dropout_leaves_each_source_out_as_often_as_it_says_and_only_in_training():
    encoder, (p_BF, basal_BSH) = made(source_dropout=0.25), drawn()
    seen = []
    encoder._pool = lambda t_BTH, attend_BT: seen.append(attend_BT) or t_BTH[:, 0]
    encoder({}, p_BF.expand(5, 7), basal_BSH, None)
    assert seen[0][:, :3].all()
    encoder.train()
    torch.manual_seed(2)
    many = p_BF[:1].expand(20_000, 7), basal_BSH[:1].expand(20_000, 4, 8)
    encoder({}, *many, None)
    kept, missing, context = seen[1][:, :3], seen[1][:, 3], seen[1][:, 4]
    torch.testing.assert_close(kept.float().mean(0), torch.full((3,), 0.75), atol=0.02, rtol=0)
    assert torch.equal(missing, ~kept.any(dim=1))
    assert missing.float().mean().item() == pytest.approx(0.25**3, abs=0.005)
    assert context.all()


def test_a_table_of_one_source_is_one_token():
    encoder = made(source_widths=())
    assert [p.in_features for p in encoder.projections] == [7]


def test_widths_are_the_parts_of_a_fusion_unless_its_columns_are_mixed():
    vectors = torch.ones(1, 5).numpy()
    parts = [{"columns": [0, 3]}, {"columns": [3, 5]}]
    assert source_widths(FeatureTable(["A"], vectors, {"source": "fusion", "parts": parts})) == [3, 2]
    assert source_widths(FeatureTable(["A"], vectors, {"source": "fusion", "parts": [{}, {}]})) == []
    assert source_widths(FeatureTable(["A"], vectors)) == []


def test_vectors_that_a_policy_filled_in_know_nothing():
    table = FeatureTable(["A", "B"], [[1, 2], [3, 4]], {"missing_policy": {"B": "mean"}})
    assert table.without_filled().vectors.tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"source_widths": (3, 3)}, "have to sum to the 7 features"),
        ({"encoder": "table", "source_widths": (3, 4)}, "model.encoder=sources reads them"),
        ({"source_widths": (), "encoder": "table", "source_dropout": 0.2}, "model.source_dropout is of"),
        ({"source_dropout": 1.0}, "model.source_dropout=1.0 has to be a number from 0 to below 1"),
        ({"start": "backbone", "space": "embedding", "output_space": "embedding"}, "these cells are an embedding"),
        (
            {"start": "backbone", "genes": 8, "every_gene": 9, "gene_decoder": True, "output_space": "all"},
            "a start of its own",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(options, sentence):
    with pytest.raises(StateshiftError, match=sentence):
        replace(SHAPE, **options)
