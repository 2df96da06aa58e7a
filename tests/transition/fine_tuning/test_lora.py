"""Adapters of low rank, put beside the transformer's weights and merged into them."""

import importlib.util

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.transition.backbone import SetTransformer
from stateshift.transition.fine_tuning.lora import add_adapters, merged_state, refuse_without_peft

pytest.importorskip("peft", reason="the extra `lora` is not installed")
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")


def backbone(**options) -> SetTransformer:
    torch.manual_seed(0)
    return SetTransformer(8, 2, 2, 12, **options).eval()


def trained(model: SetTransformer) -> SetTransformer:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def test_untrained_adapters_change_nothing_and_are_all_that_is_trained():
    plain, model, cells = backbone(), backbone(), torch.rand(2, 4, 8)
    add_adapters(model, 2, 4, 0.0, QKVO)
    assert torch.equal(model(cells), plain(cells))
    named = {name: weight.requires_grad for name, weight in model.named_parameters()}
    assert sum(named.values()) == 2 * 4 * 2
    assert all(("lora_" in name) == trained for name, trained in named.items())


def test_merged_weights_are_the_plain_models_and_give_the_same_cells():
    model, cells = backbone(), torch.rand(2, 4, 8)
    add_adapters(model, 2, 4, 0.0, (*QKVO, "down_proj"))
    trained(model)
    plain = backbone()
    before = plain(cells)
    merged = merged_state(model, model.state_dict())
    assert merged.keys() == plain.state_dict().keys()
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(cells), model(cells), atol=1e-6, rtol=0)
    assert (plain(cells) - before).abs().max() > 0.01


def test_an_adapter_adds_alpha_over_rank_times_b_a():
    model = backbone()
    add_adapters(model, 2, 6, 0.0, ["v_proj"])
    trained(model)
    layer = model.layers[1].self_attn.v_proj
    expected = layer.base_layer.weight + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = merged_state(model, model.state_dict())
    torch.testing.assert_close(merged["layers.1.self_attn.v_proj.weight"], expected.detach())
    assert torch.equal(merged["layers.1.self_attn.q_proj.weight"], model.layers[1].self_attn.q_proj.weight)


def test_a_model_without_adapters_is_saved_as_it_is():
    model = backbone()
    merged = merged_state(model, model.state_dict())
    assert merged.keys() == model.state_dict().keys()
    assert all(torch.equal(merged[name], value) for name, value in model.state_dict().items())


def test_targets_that_cells_on_their_own_lack_are_passed_over_and_none_at_all_is_refused():
    model = backbone(alone=True)
    add_adapters(model, 2, 4, 0.0, QKVO)
    assert sum("lora_A" in name for name, _ in model.named_parameters()) == 2 * 2
    with pytest.raises(StateshiftError, match=r"training.lora.targets=\['q_proj'\]: this model's transformer has none"):
        add_adapters(backbone(alone=True), 2, 4, 0.0, ["q_proj"])


def test_a_missing_peft_names_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a))
    monkeypatch.setattr("stateshift.transition.fine_tuning.lora.find_spec", importlib.util.find_spec)
    with pytest.raises(StateshiftError, match=r'pip install "stateshift\[lora\]"'):
        refuse_without_peft()
