"""Loading ESM2 checkpoints: safely, under any name, or refused with what is wrong."""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import re
import shutil
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.files import sha256
from stateshift.proteins.esm2.models import DEMO, DEMO_FILE, DEMO_LAYERS, PUBLISHED, load_esm2, told_shape
from stateshift.proteins.esm2.precision import attention_precision, choose_precision

REGRESSION = ("contact_head.regression.weight", "contact_head.regression.bias")


def demo_content():
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(DEMO_FILE, weights_only=True)


def test_the_demo_model_serves_when_none_is_named():
    esm = load_esm2()
    assert (esm.name, esm.layers, esm.width, esm.is_demo) == (DEMO, 4, 128, True)
    assert esm.sha256 == sha256(DEMO_FILE)
    assert (esm.engine, esm.precision) == ("stateshift", "fp32")
    assert not esm.network.training


def test_the_demo_file_is_small_and_described_with_the_perplexity_it_reached():
    described = json.loads(DEMO_FILE.with_suffix(".json").read_text())
    assert DEMO_FILE.stat().st_size <= 3_000_000
    assert described["name"] == DEMO
    assert described["sha256"] == sha256(DEMO_FILE)
    assert "demo only" in described["use"]
    assert described["held_out_perplexity"] < described["held_out_perplexity_of_amino_acid_frequencies"] - 0.5
    assert described["held_out_perplexity"] < described["held_out_perplexity_before_training"]


def test_the_demo_model_guesses_a_masked_residue_by_the_company_it_keeps():
    """Its few minutes of training taught it the composition of the protein at hand, and little more."""
    esm = load_esm2()
    company = {
        "L": "MALLVLGLLAVLLFPWLSLLGAL*ALLPLVLSGLLWLAVLLGLA",
        "K": "MKSEKKRKEEKDKKKKSEDKEKE*KEKKSKDEKRKKEEKKDSKE",
    }
    chances = {}
    for kind, sequence in company.items():
        _, _, tokens = esm.alphabet.get_batch_converter()([("", sequence.replace("*", "<mask>"))])
        with torch.no_grad():
            chances[kind] = esm.run(tokens, logits=True).logits[0, sequence.index("*") + 1].softmax(-1)
    for kind, other in (("L", "K"), ("K", "L")):
        letter = esm.alphabet.get_idx(kind)
        assert chances[kind].argmax() == letter
        assert chances[kind][letter] > 2 * chances[other][letter]


def test_fair_esm_itself_loads_the_demo_file_to_the_same_weights_and_rows():
    from esm.pretrained import load_model_and_alphabet_core

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, alphabet = load_model_and_alphabet_core("esm2_demo", demo_content())
    fallback = load_esm2(engine="fair-esm").network.theirs.state_dict()
    for name, value in theirs.state_dict().items():
        if not name.startswith("contact_head"):
            assert torch.equal(value, fallback[name]), name
    _, _, tokens = alphabet.get_batch_converter()([("a", "MKVLAAGGWE"), ("b", "MKV<mask>A")])
    with torch.no_grad():
        rows = theirs.eval()(tokens, repr_layers=[4])["representations"][4]
    torch.testing.assert_close(load_esm2().run(tokens, [4]).rows[4][0], rows[0], rtol=1e-5, atol=1e-5)


def test_tokens_are_those_of_fair_esms_batch_converter():
    esm = load_esm2()
    sequences = ["MKUOBZXLAG", "V", "LAGVSERTIDPKQNFYMHWC"]
    _, _, tokens = esm.alphabet.get_batch_converter()([("", sequence) for sequence in sequences])
    assert torch.equal(esm.tokens(sequences), tokens)
    with pytest.raises(StateshiftError, match=r"`MKvLJ…` holds 'J', 'v', no amino acid"):
        esm.tokens(["MKV", "MKvLJ"])


def test_a_file_under_another_name_and_without_regression_loads(tmp_path):
    copy = tmp_path / "weights-v2.bin"
    shutil.copy(DEMO_FILE, copy)
    esm = load_esm2(copy)
    assert (esm.name, esm.width) == ("weights-v2", 128)
    assert esm.is_demo


def test_contacts_come_with_the_regression_in_the_file_or_beside_it(checkpoint_maker, content_maker, tmp_path):
    inside = load_esm2(checkpoint_maker(regression=True, name="inside.pt"))
    content = content_maker(2, 32, 4, regression=True)
    regression = {name: content["model"].pop(f"encoder.sentence_encoder.{name}") for name in REGRESSION}
    torch.save(content, tmp_path / "esm2_mine.pt")
    with pytest.raises(StateshiftError, match="no contact regression"):
        load_esm2(tmp_path / "esm2_mine.pt").run(inside.tokens(["MKVLA"]), contacts=True)
    torch.save({"model": regression}, tmp_path / "esm2_mine-contact-regression.pt")
    beside = load_esm2(tmp_path / "esm2_mine.pt")
    contacts = [esm.run(esm.tokens(["MKVLA"]), contacts=True).contacts for esm in (inside, beside)]
    assert contacts[0].shape == (1, 5, 5)
    torch.testing.assert_close(*contacts)
    assert beside.sha256 == sha256(tmp_path / "esm2_mine.pt")


def test_a_published_name_is_read_from_the_hub_folder_where_fair_esm_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(DEMO_FILE, folder / "esm2_t6_8M_UR50D.pt")
    assert load_esm2("esm2_t6_8M_UR50D").name == "esm2_t6_8M_UR50D"


def test_a_published_name_is_fetched_through_the_catalogue_and_once(tmp_path, monkeypatch, content_maker):
    from stateshift.catalogue import fetching
    from stateshift.catalogue.entries import Entry, PublicFile

    name, served = "esm2_t6_8M_UR50D", tmp_path / "served"
    served.mkdir()
    content = content_maker(2, 32, 4, regression=True)
    regression = {key: content["model"].pop(f"encoder.sentence_encoder.{key}") for key in REGRESSION}
    torch.save(content, served / f"{name}.pt")
    torch.save({"model": regression}, served / f"{name}-contact-regression.pt")
    asked = []

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        files = tuple(
            PublicFile(file.name, f"{address}/{file.name}") for file in sorted(served.iterdir(), reverse=True)
        )
        monkeypatch.setattr(fetching, "entry", lambda _: Entry(name, "", "here", "", "", files))
        monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        esm = load_esm2(name)
        assert (esm.name, esm.width, esm.sha256) == (name, 32, sha256(served / f"{name}.pt"))
        assert esm.run(esm.tokens(["MKV"]), contacts=True).contacts.shape == (1, 3, 3)
        load_esm2(name)
        assert sorted(asked) == [f"/{name}-contact-regression.pt", f"/{name}.pt"]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("esm2_650M", "esm2_t33_650M_UR50D"),
        ("ESM2_T36_3B", "esm2_t36_3B_UR50D"),
        ("esm2-15b", "esm2_t48_15B_UR50D"),
        ("esm2_t6", "esm2_t6_8M_UR50D"),
        ("esm2_t12_35M_UR50S", "esm2_t12_35M_UR50D"),
    ],
)
def test_a_misspelt_model_is_refused_with_the_published_name_meant(asked, meant):
    with pytest.raises(StateshiftError, match=f"did you mean `{meant}`"):
        load_esm2(asked)


def test_a_name_like_no_model_is_refused_with_all_six():
    with pytest.raises(StateshiftError) as caught:
        load_esm2("prot-bert")
    assert all(name in str(caught.value) for name in PUBLISHED)


def test_an_absent_file_is_told_from_a_name(tmp_path):
    with pytest.raises(StateshiftError, match="no such checkpoint file"):
        load_esm2(tmp_path / "absent.pt")


def test_a_pickle_with_code_is_never_run(tmp_path):
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    torch.save({"cfg": Trap(), "model": {}}, tmp_path / "trap_too.pt")
    for name in ("trap.pt", "trap_too.pt"):
        with pytest.raises(StateshiftError, match="read safely"):
            load_esm2(tmp_path / name)
    assert not marker.exists()


def test_incomplete_and_foreign_checkpoints_are_refused_with_what_is_wrong(tmp_path):
    lacking = demo_content()
    del lacking["model"]["encoder.lm_head.bias"]
    lacking_query = demo_content()
    del lacking_query["model"]["encoder.sentence_encoder.layers.1.self_attn.q_proj.weight"]
    narrow = demo_content()
    narrow["cfg"]["model"].encoder_embed_dim = 64
    shallow = demo_content()
    shallow["cfg"]["model"].encoder_layers = 3
    many_heads = demo_content()
    many_heads["cfg"]["model"].encoder_attention_heads = 5
    no_width = demo_content()
    del no_width["cfg"]["model"].encoder_embed_dim
    folding = demo_content()
    folding["model"]["trunk.blocks.0.weight"] = torch.zeros(2)
    cases = {
        "lacks head_bias": lacking,
        "it lacks q of blocks.1.qkv.weight": lacking_query,
        "its embedding is .33, 128. where .33, 64. is due": narrow,
        "also holds blocks.3": shallow,
        "can't have 5 heads": many_heads,
        "encoder_embed_dim": no_width,
        "also holds trunk": folding,
        "ESM-1 checkpoint .architecture `roberta_large`.": {
            "args": argparse.Namespace(arch="roberta_large"),
            "model": {},
        },
        "architecture `msa_transformer`": {"args": argparse.Namespace(arch="msa_transformer"), "model": {}},
        "neither in fair-esm's": {"state_dict": {}},
        "holds a list": [1, 2],
    }
    for told, content in cases.items():
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(StateshiftError, match=told):
            load_esm2(tmp_path / "bad.pt")
    for share in (0.2, 0.9):
        whole = DEMO_FILE.read_bytes()
        (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(StateshiftError, match="read safely"):
            load_esm2(tmp_path / "cut.pt")


def test_hugging_faces_esm_1b_a_folder_without_weights_and_one_without_config_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "esm", "position_embedding_type": "absolute"}))
    with pytest.raises(StateshiftError, match="holds no checkpoint"):
        load_esm2(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StateshiftError, match="position_embedding_type = 'absolute'"):
        load_esm2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "position_embedding_type": "rotary"}))
    with pytest.raises(StateshiftError, match="model_type = 'bert'"):
        load_esm2(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(StateshiftError, match=r"config\.json"):
        load_esm2(tmp_path)


def test_shards_with_an_index_are_one_checkpoint_and_a_lost_shard_is_named(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        position_embedding_type="rotary", token_dropout=True, mask_token_id=32, pad_token_id=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = transformers.EsmForMaskedLM(config)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="30KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = load_esm2(tmp_path / "one"), load_esm2(tmp_path / "many")
    tokens = one.tokens(["MKVLA"])
    torch.testing.assert_close(one.run(tokens, [2]).rows[2], many.run(tokens, [2]).rows[2])
    next((tmp_path / "many").glob("*-00002-*")).unlink()
    with pytest.raises(StateshiftError, match="00002"):
        load_esm2(tmp_path / "many")
    for named in ({"x": "../one/model.safetensors"}, ["model.safetensors"], {"x": 1}):
        (tmp_path / "many" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
        with pytest.raises(StateshiftError, match="its weight_map has to name files of its folder"):
            load_esm2(tmp_path / "many")


def test_layers_count_from_either_end_and_others_are_refused():
    esm = load_esm2()
    tokens = esm.tokens(["MKV"])
    found = esm.run(tokens, [-1, 4, 0, -5])
    assert torch.equal(found.rows[-1], found.rows[4])
    assert torch.equal(found.rows[-5], found.rows[0])
    with pytest.raises(StateshiftError, match="layers 0 to 4"):
        esm.run(tokens, [5])


def test_a_shape_is_told_without_the_weights_where_a_name_or_a_config_tells_it(tmp_path):
    esm = load_esm2()
    assert told_shape() == (esm.name, esm.layers, esm.width)
    for name, (layers, width) in PUBLISHED.items():
        millions = float(re.search(r"(\d+)M", name.replace("B_", "000M_"))[1])
        assert name.startswith(f"esm2_t{layers}_")
        assert 12 * layers * width**2 / 1e6 == pytest.approx(millions, rel=0.1)
    (tmp_path / "esm2_t6_8M_UR50D.pt").write_bytes(b"unread")
    assert told_shape(tmp_path / "esm2_t6_8M_UR50D.pt") == ("esm2_t6_8M_UR50D", 6, 320)
    (tmp_path / "own.pt").write_bytes(b"unread by anyone")
    assert told_shape(tmp_path / "own.pt") is None
    config = {"model_type": "esm", "position_embedding_type": "rotary", "num_hidden_layers": 7, "hidden_size": 96}
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    assert told_shape(tmp_path) == (tmp_path.name, 7, 96)


def test_engine_and_precision_are_checked():
    with pytest.raises(StateshiftError, match="did you mean `fair-esm`"):
        load_esm2(engine="fairesm")
    with pytest.raises(StateshiftError, match="did you mean `bf16`"):
        load_esm2(precision="bf-16")
    with pytest.raises(StateshiftError, match="runs in fp32"):
        load_esm2(engine="fair-esm", precision="bf16")


@pytest.mark.parametrize(
    ("amx", "avx", "width", "chosen", "attention"),
    [
        (True, True, 320, "bf16", "bf16"),
        (False, True, 320, "bf16", "fp32"),
        (False, True, 128, "fp32", "fp32"),
        (False, False, 320, "fp32", "fp32"),
    ],
)
def test_the_precision_is_what_the_processor_gains_by(monkeypatch, amx, avx, width, chosen, attention):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, width)[0] == chosen
    assert attention_precision(chosen, cpu) == attention


def test_the_demo_model_says_what_it_is_under_any_name_and_others_do_not(tmp_path, checkpoint_maker, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "mine.pt").write_bytes(DEMO_FILE.read_bytes())
    assert load_esm2().layers == load_esm2(tmp_path / "mine.pt").layers == DEMO_LAYERS
    assert caplog.text.count("good for trying out, not for research") == 2
    load_esm2(checkpoint_maker())
    assert caplog.text.count("good for trying out, not for research") == 2


def test_fair_esms_file_under_another_name_does_not_mind_a_config_beside_it(tmp_path, checkpoint_maker):
    checkpoint_maker().rename(tmp_path / "x.bin")
    (tmp_path / "config.json").write_text('{"of": "something else"}')
    assert load_esm2(tmp_path / "x.bin").layers == 2


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights.pt", "weights"])
@pytest.mark.parametrize("layout", ["fair-esm", "old fair-esm", "safetensors", "Hugging Face's .bin"])
def test_what_a_checkpoint_is_shows_from_its_content_whatever_it_is_called(tmp_path, content_maker, layout, name):
    transformers = pytest.importorskip("transformers")
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        position_embedding_type="rotary", token_dropout=True, mask_token_id=32, pad_token_id=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = transformers.EsmForMaskedLM(config)
    model.save_pretrained(tmp_path / "folder")
    config.save_pretrained(tmp_path)
    match layout:
        case "safetensors":
            (tmp_path / "folder" / "model.safetensors").rename(tmp_path / name)
        case "Hugging Face's .bin":
            torch.save(model.state_dict(), tmp_path / name)
        case _:
            torch.save(content_maker(2, 32, 4), tmp_path / name, _use_new_zipfile_serialization=layout == "fair-esm")
    esm = load_esm2(tmp_path / name)
    assert (esm.name, esm.layers, esm.width, esm.sha256) == ("weights", 2, 32, sha256(tmp_path / name))
    if "fair-esm" not in layout:
        tokens = esm.tokens(["MKVLA"])
        theirs = model.eval()(tokens, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(esm.run(tokens, [2]).rows[2], theirs, rtol=1e-5, atol=1e-5)
        (tmp_path / "config.json").unlink()
        with pytest.raises(StateshiftError, match=r"nor has it Hugging Face's config\.json beside it"):
            load_esm2(tmp_path / name)


def test_what_is_wrong_with_weights_is_told_in_our_words(tmp_path, content_maker):
    content = content_maker(2, 32, 4, regression=True)
    weights = content["model"]
    layer = "encoder.sentence_encoder.layers.0.self_attn"
    contacts = next(name for name in weights if name.endswith("contact_head.regression.weight"))
    changes = [
        ({contacts: torch.zeros(1, 12)}, "checkpoint: its contact_weight is"),
        ({f"{layer}.q_proj.weight": torch.zeros(32, 16)}, r"q, k and v of blocks.0.qkv.weight differ in shape"),
    ]
    for change, told in changes:
        torch.save(content | {"model": weights | change}, tmp_path / "x.pt")
        with pytest.raises(StateshiftError, match=told):
            load_esm2(tmp_path / "x.pt")
    torch.save({"model": argparse.ArgumentParser}, tmp_path / "code.pt")
    with pytest.raises(StateshiftError, match="of which nothing was run") as caught:
        load_esm2(tmp_path / "code.pt")
    assert "weights_only" not in str(caught.value)
