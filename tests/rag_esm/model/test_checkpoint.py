"""Checkpoints: what is written is read, what is broken is told."""

from __future__ import annotations

import json

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.rag_esm.model.checkpoint import load_rag_esm, save_rag_esm
from stateshift.rag_esm.model.tokens import tokens_of


def logits(network, protein_maker):
    tokens, context = tokens_of(["MK" + "-" * 9]), tokens_of([protein_maker(15)])
    with torch.inference_mode():
        return network.logits(network(tokens, network.encode(context)))


def test_a_saved_model_says_the_same_and_tells_its_base(demo_maker, protein_maker, tmp_path):
    trained = demo_maker("alternate-2")
    save_rag_esm(trained, tmp_path / "model")
    again = load_rag_esm(tmp_path / "model", "cpu")
    assert sorted(f.name for f in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert again.network.layers == (1, 3)
    assert again.base["model"] == "stateshift-demo-esm2"
    torch.testing.assert_close(logits(again.network, protein_maker), logits(trained.network, protein_maker))


def test_a_published_checkpoint_becomes_ours_without_a_change(state_maker, protein_maker, tmp_path):
    torch.save(state_maker(2, 64, 4, (1,)), tmp_path / "pytorch_model.bin")
    theirs = load_rag_esm(tmp_path, "cpu")
    save_rag_esm(theirs, tmp_path / "ours")
    ours = load_rag_esm(tmp_path / "ours", "cpu")
    torch.testing.assert_close(logits(ours.network, protein_maker), logits(theirs.network, protein_maker))


def test_an_encoder_with_weights_of_its_own_is_kept(state_maker, protein_maker, tmp_path):
    state = state_maker(2, 64, 4, (1,))
    shared = logits_of(state, tmp_path / "shared", protein_maker)
    state["encoder.encoder.layer.1.output.dense.bias"] += 1
    assert load_rag_esm(written(state, tmp_path / "unused"), "cpu").network.encoder is None
    state["encoder.encoder.layer.0.output.dense.bias"] += 1
    other = load_rag_esm(written(state, tmp_path / "own"), "cpu")
    assert other.network.encoder is not None
    assert (logits(other.network, protein_maker) - shared).abs().max() > 0.01
    save_rag_esm(other, tmp_path / "saved")
    again = load_rag_esm(tmp_path / "saved", "cpu").network
    torch.testing.assert_close(logits(again, protein_maker), logits(other.network, protein_maker))


def written(state, folder):
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def logits_of(state, folder, protein_maker):
    return logits(load_rag_esm(written(state, folder), "cpu").network, protein_maker)


def test_weights_of_another_esm2_size_are_refused(demo_maker, tmp_path):
    folder = save_rag_esm(demo_maker(), tmp_path / "model")
    told = json.loads((folder / "config.json").read_text())
    told["shape"] |= {"width": 320, "heads": 20}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(StateshiftError, match=r"has .* of \(.*128.*\) where an ESM2 320 wide has"):
        load_rag_esm(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told.pop("base"), "damaged RAG-ESM checkpoint: it lacks 'base'"),
        (lambda told: told["shape"].update(layers=10**12), "says 1000000000000 layers, of which"),
        (lambda told: told.update(cross_layers=3), "damaged RAG-ESM checkpoint"),
    ],
)
def test_a_config_that_its_weights_contradict_is_told(demo_maker, tmp_path, change, told):
    folder = save_rag_esm(demo_maker(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(StateshiftError, match=told):
        load_rag_esm(folder)


def test_a_bit_that_flips_in_the_weights_is_told(demo_maker, tmp_path):
    folder = save_rag_esm(demo_maker(), tmp_path / "model")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(StateshiftError, match=r"model.safetensors is missing, or not what was written"):
        load_rag_esm(folder)


def test_the_best_of_a_run_goes_by_the_runs_name(demo_maker, tmp_path):
    (tmp_path / "run").mkdir()
    save_rag_esm(demo_maker(), tmp_path / "run" / "best")
    assert load_rag_esm(tmp_path / "run").name == "run"


def test_a_model_without_its_config_is_told_so(demo_maker, tmp_path):
    folder = save_rag_esm(demo_maker(), tmp_path / "model")
    (folder / "config.json").unlink()
    with pytest.raises(StateshiftError, match=r"whose config\.json is missing"):
        load_rag_esm(folder)


def test_a_plain_esm2_checkpoint_and_a_pickle_are_refused(state_maker, tmp_path):
    plain = {n: w for n, w in state_maker(2, 64, 4, ()).items() if n.startswith("encoder.")}
    with pytest.raises(StateshiftError, match="no name begins with decoder.esm."):
        load_rag_esm(written(plain, tmp_path / "plain"))
    with pytest.raises(StateshiftError, match="safely: it is damaged, or holds more than weights"):
        load_rag_esm(written({"decoder.esm.x": slice(1)}, tmp_path / "pickle"))
    with pytest.raises(StateshiftError, match="there is no such"):
        load_rag_esm(tmp_path / "nowhere")


def test_missing_weights_are_named(state_maker, tmp_path):
    state = state_maker(2, 64, 4, (0, 1))
    del state["decoder.esm.encoder.layer.1.crossattention.self.value.weight"]
    with pytest.raises(StateshiftError, match=r"lacks cross\.1\.value\.weight"):
        load_rag_esm(written(state, tmp_path / "cut"))
