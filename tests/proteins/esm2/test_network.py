"""Our ESM2 against fair-esm's and Hugging Face's, at every layer of every published width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins.esm2.checkpoint import from_fair_esm
from stateshift.proteins.esm2.fair_esm import FairESM
from stateshift.proteins.esm2.models import _network, load_esm2
from stateshift.proteins.esm2.network import MASK, PAD, Seen, paired

# published width, its heads, and how many layers are enough here
WIDTHS = [(320, 20, 3), (480, 20, 3), (640, 20, 2), (1280, 20, 2), (2560, 40, 1), (5120, 40, 1)]


def random_tokens(lengths, seed=0):
    """Tokens (B, T) with BOS, EOS and padding; the last protein has masked residues."""
    rng = np.random.default_rng(seed)
    tokens = torch.full((len(lengths), max(lengths) + 2), PAD)
    for row, length in zip(tokens, lengths):
        row[1 : length + 1] = torch.from_numpy(rng.integers(4, 24, length))
        row[0], row[length + 1] = 0, 2
    tokens[-1, 2:4] = MASK
    return tokens


def distance(ours, theirs, where):
    """Relative distance of two arrays of rows."""
    return float((ours[where] - theirs[where]).norm() / theirs[where].norm())


@pytest.mark.parametrize(("width", "heads", "layers"), WIDTHS)
def test_every_layer_and_the_logits_equal_fair_esms_at_every_published_width(content_maker, width, heads, layers):
    shape, weights = from_fair_esm(content_maker(layers, width, heads), Path("random.pt"))
    ours, theirs = _network(shape, weights, "fp32", "fp32").eval(), FairESM(shape, weights).eval()
    tokens = random_tokens([24, 17, 5])
    wanted = range(layers + 1)
    with torch.inference_mode():
        mine, fair = (model(tokens, wanted, logits=True) for model in (ours, theirs))
    residues = tokens != PAD
    for layer in wanted:
        assert distance(mine.rows[layer], fair.rows[layer], residues) < 1e-5, layer
        spread = fair.rows[layer][residues].std(0).mean()
        assert spread > 0.1, "the rows have to differ for the comparison to mean anything"
    assert distance(mine.logits, fair.logits, residues) < 1e-5


def test_contacts_equal_fair_esms_in_a_padded_batch(content_maker):
    shape, weights = from_fair_esm(content_maker(3, 32, 4, regression=True), Path("random.pt"))
    tokens = random_tokens([30, 12])
    with torch.inference_mode():
        ours = _network(shape, weights, "fp32", "fp32").eval()(tokens, [3], contacts=True)
        theirs = FairESM(shape, weights).eval()(tokens, [3], contacts=True)
    for protein, length in enumerate((30, 12)):
        mine, fair = (found.contacts[protein, :length, :length] for found in (ours, theirs))
        assert mine.std() > 0.005
        torch.testing.assert_close(mine, fair, rtol=1e-4, atol=1e-5)
    assert distance(ours.rows[3], theirs.rows[3], tokens != PAD) < 1e-5


def test_every_layer_equals_hugging_faces_and_their_folder_is_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256,
        position_embedding_type="rotary", token_dropout=True, mask_token_id=32, pad_token_id=1,
        emb_layer_norm_before=False, layer_norm_eps=1e-5,
    )  # fmt: skip
    theirs = transformers.EsmForMaskedLM(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path / "masked")
    theirs.esm.save_pretrained(tmp_path / "plain")
    tokens = random_tokens([40, 23, 9])
    residues = tokens != PAD
    with torch.no_grad():
        said = theirs(tokens, attention_mask=residues.long(), output_hidden_states=True)
    for folder in ("masked", "masked/model.safetensors", "plain"):
        esm = load_esm2(tmp_path / folder)
        assert (esm.layers, esm.width) == (3, 64)
        found = esm.run(tokens, range(4))
        for layer in range(4):
            assert distance(found.rows[layer], said.hidden_states[layer], residues) < 1e-5, (folder, layer)
    assert distance(load_esm2(tmp_path / "masked").run(tokens, logits=True).logits, said.logits, residues) < 1e-5
    with pytest.raises(StateshiftError, match="no language-model head"):
        load_esm2(tmp_path / "plain").run(tokens, logits=True)


@pytest.mark.parametrize("attention", ["fp32", "bf16"])
def test_in_bfloat16_the_lowest_cosine_of_a_residue_is_at_least_0_9999(content_maker, attention):
    shape, weights = from_fair_esm(content_maker(6, 320, 20), Path("random.pt"))
    tokens = random_tokens([120, 61])
    with torch.inference_mode():
        half = _network(shape, weights, "bf16", attention).eval()(tokens, [6]).rows[6]
        whole = FairESM(shape, weights).eval()(tokens, [6]).rows[6]
    residues = tokens != PAD
    assert half.dtype == torch.float32
    lowest = torch.cosine_similarity(half[residues], whole[residues], dim=-1).min()
    assert 0.9999 <= lowest < 0.9999999


def test_a_mask_and_proteins_that_attend_by_themselves_come_to_the_same(content_maker):
    """What a GPU does, done on this CPU."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[1, 6:] = True
    alone, masked = Seen(padding, torch.float32), Seen(padding, torch.float32)
    masked.lengths = None
    torch.testing.assert_close(alone.attended(q, k, v)[~padding], masked.attended(q, k, v)[~padding])


def test_neighbouring_rows_are_the_ones_turned_against_each_other():
    weight = torch.arange(3 * 8).reshape(24, 1)  # two heads of four values
    assert paired(weight, 2).flatten().tolist() == [
        *(0, 2, 1, 3, 4, 6, 5, 7), *(8, 10, 9, 11, 12, 14, 13, 15), *range(16, 24)
    ]  # fmt: skip


def test_layers_past_the_last_one_asked_for_are_not_run(content_maker):
    shape, weights = from_fair_esm(content_maker(4, 32, 4), Path("random.pt"))
    network = _network(shape, weights, "fp32", "fp32").eval()
    ran = []
    for number, block in enumerate(network.blocks, start=1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.inference_mode():
        network(random_tokens([5]), [2])
    assert ran == [1, 2]


def test_a_row_that_was_handed_out_is_not_changed_by_later_layers(content_maker):
    shape, weights = from_fair_esm(content_maker(3, 32, 4), Path("random.pt"))
    network = _network(shape, weights, "fp32", "fp32").eval()
    tokens = random_tokens([9])
    with torch.inference_mode():
        together = network(tokens, [0, 1, 2, 3])
        for layer in range(4):
            torch.testing.assert_close(together.rows[layer], network(tokens, [layer]).rows[layer])


def test_contacts_without_a_regression_are_refused_in_a_sentence(checkpoint_maker):
    esm = load_esm2(checkpoint_maker())
    with pytest.raises(StateshiftError, match="no contact regression"):
        esm.run(esm.tokens(["MKV"]), contacts=True)
