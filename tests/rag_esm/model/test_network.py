"""The network against its formulas on fair-esm's own layers, its counts and its start."""

from __future__ import annotations

import pytest
import torch
from esm.data import Alphabet
from esm.model.esm2 import ESM2 as FairESM2
from torch.nn.functional import gelu, layer_norm, multi_head_attention_forward

from stateshift.errors import StateshiftError
from stateshift.proteins.esm2.network import ESM2, Shape
from stateshift.rag_esm.model.layers import cross_layers
from stateshift.rag_esm.model.network import RagESM
from stateshift.rag_esm.model.published import read_published
from stateshift.rag_esm.model.tokens import letters_of, tokens_of


@pytest.mark.parametrize(("said", "weights"), [("all", 14_910_246), ("alternate-2", 11_211_360), ("none", 7_512_474)])
def test_the_decoder_has_as_many_live_weights_as_the_published_ones(said, weights):
    with torch.device("meta"):
        model = RagESM(ESM2(Shape(6, 320, 20)), cross_layers(said, 6))
    assert model.decoder_parameters() == weights


def test_a_context_changes_nothing_before_training_to_the_last_bit(demo_maker, protein_maker):
    network = demo_maker(opened=False).network
    tokens = tokens_of([protein_maker(30)[:10] + "-" * 20, protein_maker(17, 1)])
    context = network.encode(tokens_of([protein_maker(25, 2), protein_maker(40, 3)]))
    assert torch.equal(network(tokens, context), network(tokens))


def test_the_demo_decoder_without_context_is_esm2(demo_maker, protein_maker):
    network = demo_maker().network
    tokens = tokens_of([protein_maker(30), protein_maker(9, 1)])
    with torch.inference_mode():
        expected = network.esm(tokens, logits=True).logits
        mine = network.logits(network(tokens))
    there = tokens != 1
    torch.testing.assert_close(mine[there], expected[there], atol=1e-4, rtol=1e-4)


def fair_esm(state, prefix, layers, width, heads):
    """fair-esm's model with the weights of one of the two ESM parts."""
    model = FairESM2(layers, width, heads, token_dropout=True)
    names = {"embed_tokens.weight": "embeddings.word_embeddings.weight"}
    for i in range(layers):
        ours, theirs = f"layers.{i}", f"encoder.layer.{i}"
        pairs = [(f"self_attn.{x[0]}_proj", f"attention.self.{x}") for x in ("query", "key", "value")]
        pairs += [("self_attn.out_proj", "attention.output.dense"), ("self_attn_layer_norm", "attention.LayerNorm")]
        pairs += [("final_layer_norm", "LayerNorm"), ("fc1", "intermediate.dense"), ("fc2", "output.dense")]
        names |= {f"{ours}.{a}.{w}": f"{theirs}.{b}.{w}" for a, b in pairs for w in ("weight", "bias")}
    names |= {f"emb_layer_norm_after.{w}": f"encoder.emb_layer_norm_after.{w}" for w in ("weight", "bias")}
    model.load_state_dict({a: state[prefix + b] for a, b in names.items()}, strict=False)
    return model.eval()


def cross_by_formula(state, i, h, e, heads, hidden):
    """A cross block by the formulas; h (T, B, D), e (C, B, D)."""
    at = f"decoder.esm.encoder.layer.{i}."
    D = h.shape[-1]
    w = {name.removeprefix(at): weight for name, weight in state.items() if name.startswith(at)}
    q, k, v = (w[f"crossattention.self.{x}.weight"] for x in ("query", "key", "value"))
    bias = torch.cat([w[f"crossattention.self.{x}.bias"] for x in ("query", "key", "value")])
    normed = layer_norm(h, (D,), w["crossattention.LayerNorm.weight"], w["crossattention.LayerNorm.bias"])
    attended, _ = multi_head_attention_forward(
        normed, e, e, D, heads, None, bias, None, None, False, 0.0, w["crossattention.output.dense.weight"],
        w["crossattention.output.dense.bias"], training=False, key_padding_mask=hidden, need_weights=False,
        use_separate_proj_weight=True, q_proj_weight=q, k_proj_weight=k, v_proj_weight=v,
    )  # fmt: skip
    h = h + w["crossattention.weight_cross_attention"].tanh() * (h + attended)
    x = layer_norm(h, (D,), w["LayerNorm_crossattention.weight"], w["LayerNorm_crossattention.bias"])
    x = gelu(x @ w["intermediate_crossattention.dense.weight"].T + w["intermediate_crossattention.dense.bias"])
    x = x @ w["output_crossattention.dense.weight"].T + w["output_crossattention.dense.bias"]
    return h + w["weight_crossattention_ffw"].tanh() * (h + x)


@pytest.mark.parametrize("cross", [(0, 1, 2), (1,)])
def test_a_published_checkpoint_computes_the_stated_formulas_on_fair_esms_layers(
    state_maker, protein_maker, tmp_path, cross
):
    L, D, H = 3, 64, 4
    state = state_maker(L, D, H, cross)
    torch.save(state, tmp_path / "pytorch_model.bin")
    network, _ = read_published(tmp_path, {})
    assert network.layers == cross
    assert network.encoder is None
    inputs = [protein_maker(20)[:12] + "-" * 8, protein_maker(15, 1)[:5] + "-" * 10]
    tokens, context = tokens_of(inputs), tokens_of([protein_maker(26, 2), protein_maker(18, 3)])

    encoder, decoder = (fair_esm(state, prefix, L, D, H) for prefix in ("encoder.", "decoder.esm."))
    read = {}
    for i in cross:
        encoder.layers[i].register_forward_pre_hook(lambda module, args, i=i: read.__setitem__(i, args[0]))
        decoder.layers[i].register_forward_hook(
            lambda module, args, out, i=i: (cross_by_formula(state, i, out[0], read[i], H, context == 1), out[1])
        )
    with torch.inference_mode():
        encoder(context)
        expected = decoder(tokens, repr_layers=[L])["representations"][L]
        mine = network(tokens, network.encode(context))
        plain = network(tokens)
    there = tokens != 1
    torch.testing.assert_close(mine[there], expected[there], atol=2e-4, rtol=1e-4)
    assert (plain - mine)[there].abs().mean() > 0.1


def test_one_context_for_a_whole_batch_is_the_same_as_its_copies(demo_maker, protein_maker):
    network = demo_maker().network
    tokens = tokens_of([protein_maker(20, i) for i in range(3)])
    one = network.encode(tokens_of([protein_maker(30, 9)]))
    copies = network.encode(tokens_of([protein_maker(30, 9)] * 3))
    torch.testing.assert_close(network(tokens, one), network(tokens, copies), atol=1e-4, rtol=1e-4)


def test_every_cross_weight_gets_a_gradient_and_the_frozen_rest_none(demo_maker, protein_maker):
    network = demo_maker().network
    network.cross.requires_grad_(True)
    rows = network(
        tokens_of(["-" * 12, protein_maker(9)]), network.encode(tokens_of([protein_maker(14, i) for i in (1, 2)]))
    )
    network.logits(rows).square().mean().backward()
    for name, weight in network.named_parameters():
        if name.startswith("cross."):
            # softmax does not see what is added to all keys alike
            assert weight.grad is not None, name
            assert name.endswith("key.bias") or weight.grad.abs().max() > 0, name
        else:
            assert weight.grad is None, name


def test_all_of_esm2_can_be_trained(demo_maker, protein_maker):
    network = demo_maker().network.requires_grad_(True)
    tokens, context = tokens_of([protein_maker(12), protein_maker(9, 1)]), tokens_of([protein_maker(11, 2)] * 2)
    network.logits(network(tokens, network.encode(context))).square().mean().backward()
    used = {n: w for n, w in network.named_parameters() if "contact" not in n and not n.endswith("key.bias")}
    assert all(w.grad is not None and w.grad.abs().max() > 0 for w in used.values())


def test_letters_have_the_tokens_of_fair_esms_alphabet():
    alphabet = Alphabet.from_architecture("ESM-1b")
    sequence = "LAGVSERTIDPKQNFYMHWCXBUZO"
    expected = [alphabet.cls_idx, *(alphabet.get_idx(x) for x in sequence), alphabet.mask_idx, alphabet.eos_idx]
    assert tokens_of([sequence + "-"])[0].tolist() == expected
    assert letters_of(tokens_of([sequence + "-", "MK"])) == [sequence + "-", "MK"]


@pytest.mark.parametrize(
    ("said", "words"), [("every", "did you mean|there are"), ("1,6", "layers 0 to 5"), ("-1", "numbers as in")]
)
def test_cross_layers_that_are_none_are_refused(said, words):
    with pytest.raises(StateshiftError, match=words):
        cross_layers(said, 6)
