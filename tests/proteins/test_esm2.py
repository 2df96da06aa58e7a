"""Loading ESM2 checkpoints: safely, under any name, or refused with what is wrong."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import warnings

import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.files import sha256
from stateshift.proteins.esm2 import DEMO, DEMO_FILE, PUBLISHED, load_esm2


def demo_content():
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(DEMO_FILE, weights_only=True)


def test_the_demo_model_serves_when_none_is_named():
    esm = load_esm2()
    assert (esm.name, esm.layers, esm.width, esm.is_demo) == (DEMO, 4, 128, True)
    assert esm.sha256 == sha256(DEMO_FILE)
    assert not esm.model.training


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
            chances[kind] = esm.model(tokens)["logits"][0, sequence.index("*") + 1].softmax(-1)
    for kind, other in (("L", "K"), ("K", "L")):
        letter = esm.alphabet.get_idx(kind)
        assert chances[kind].argmax() == letter
        assert chances[kind][letter] > 2 * chances[other][letter]


def test_fair_esm_itself_loads_the_demo_file_to_the_same_weights(tmp_path):
    from esm.pretrained import load_model_and_alphabet_core

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _ = load_model_and_alphabet_core("esm2_demo", demo_content())
    ours = load_esm2().model
    theirs_state, ours_state = theirs.state_dict(), ours.state_dict()
    assert set(theirs_state) == set(ours_state)
    for name, value in theirs_state.items():
        if not name.startswith("contact_head"):
            assert torch.equal(value, ours_state[name]), name


def test_a_file_under_another_name_and_without_regression_loads(tmp_path):
    copy = tmp_path / "weights-v2.bin"
    shutil.copy(DEMO_FILE, copy)
    esm = load_esm2(copy)
    assert (esm.name, esm.width) == ("weights-v2", 128)
    assert esm.is_demo


def test_a_file_that_carries_its_contact_regression_loads_too(tmp_path):
    content = demo_content()
    content["model"]["contact_head.regression.weight"] = torch.zeros(1, 16)
    content["model"]["contact_head.regression.bias"] = torch.zeros(1)
    torch.save(content, tmp_path / "m.pt")
    assert load_esm2(tmp_path / "m.pt").layers == 4


def test_a_published_name_is_read_from_the_hub_folder_where_it_was_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(DEMO_FILE, folder / "esm2_t6_8M_UR50D.pt")
    assert load_esm2("esm2_t6_8M_UR50D").name == "esm2_t6_8M_UR50D"


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
    narrow = demo_content()
    narrow["cfg"]["model"].encoder_embed_dim = 64
    no_width = demo_content()
    del no_width["cfg"]["model"].encoder_embed_dim
    cases = {
        "lacks lm_head.bias": lacking,
        "not a whole ESM2 checkpoint": narrow,
        "encoder_embed_dim": no_width,
        "ESM-1 checkpoint": {"args": argparse.Namespace(arch="roberta_large"), "model": {}},
        "needs the keys `cfg` and `model`": {"state_dict": {}},
    }
    for told, content in cases.items():
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(StateshiftError, match=told):
            load_esm2(tmp_path / "bad.pt")
    (tmp_path / "cut.pt").write_bytes(DEMO_FILE.read_bytes()[:100_000])
    with pytest.raises(StateshiftError, match="read safely"):
        load_esm2(tmp_path / "cut.pt")
