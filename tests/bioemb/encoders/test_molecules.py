"""Molecules by a Hugging Face encoder: a tiny BERT that the tests make, from a folder, without network."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import torch

from stateshift.bioemb.encoders import input_table, read_molecules
from stateshift.bioemb.settings import read_settings
from stateshift.bioemb.training.mlm import train_mlm
from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import InputProblems, StateshiftError

SMILES = ["C" * n + tail for n in range(1, 9) for tail in ("", "O", "N", "c1ccccc1")]


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers (the extra molecules) is not installed")


@pytest.fixture
def bert(tmp_path, transformers) -> str:
    """A BERT of two layers with one token a character, in a folder."""
    characters = sorted(set("".join(SMILES)))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(vocabulary))
    (tmp_path / "bert" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": false}'
    )
    return str(tmp_path / "bert")


@pytest.fixture
def words(tmp_path, write) -> list[str]:
    """A csv as BBBP's, and overrides that name it."""
    rows = "".join(f"m{i},{i % 2},{smiles}\n" for i, smiles in enumerate(SMILES))
    path = write("b.csv", "name,p_np,smiles\n" + rows)
    quick = ["data.transductive=true", "training.epochs=2", "model.bottleneck=4", "codes.k=4", "mlm.epochs=2"]
    return [f"data.molecules={path}", f"output_dir={tmp_path}", *quick]


def test_a_molecule_is_the_mean_of_its_tokens_whatever_stands_beside_it(bert, words, transformers, caplog):
    table = input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={bert}"]))
    assert "not read" not in caplog.text
    input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={bert}", "encoder.max_length=16"]))
    longest = SMILES[27], SMILES[31]  # of 15 and 16 letters, and two tokens at their ends
    assert f"Of 2 molecules of more than 16 tokens the rest is not read (encoder.max_length): {', '.join(longest)}" in (
        caplog.text
    )
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(bert), transformers.AutoModel.from_pretrained(bert)
    for smiles in ("C", "CCCc1ccccc1"):
        with torch.no_grad():
            rows = model.eval()(**tokenizer(smiles, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(table.vectors[SMILES.index(smiles)], rows.mean(0), atol=1e-5)


@pytest.mark.usefixtures("tiny")
def test_bbbp_trains_from_its_preset_with_its_labels(bert, words, tmp_path):
    trained = train_bioemb("bbbp", [*words, f"encoder.checkpoint={bert}", f"downstream.labels={tmp_path / 'b.csv'}"])
    assert trained.fine_tuned().vectors.shape == (32, 4)
    with (trained.folder / "metrics.csv").open() as handle:
        assert 0 <= float(list(csv.DictReader(handle))[-1]["downstream_AUROC"]) <= 1


def test_mlm_trains_the_same_encoder_and_its_folder_is_an_encoder(bert, words, tmp_path):
    table = train_mlm("bbbp", [*words, "name=mlm", f"encoder.checkpoint={bert}", "mlm.learning_rate=1e-2"])
    before = input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={bert}"]))
    after = input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={tmp_path / 'mlm' / 'encoder'}"]))
    assert np.abs(table.vectors - before.vectors).max() > 1e-2
    np.testing.assert_allclose(after.vectors, table.vectors, atol=1e-5)


def test_an_encoder_that_lacks_weights_is_refused(bert, words, transformers):
    transformers.AutoModel.from_pretrained(bert).save_pretrained(bert)  # without the language model's head
    assert len(input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={bert}"]))) == 32
    with pytest.raises(StateshiftError, match="lacks weights of its language model, which would be random: cls"):
        train_mlm("bbbp", [*words, "name=mlm", f"encoder.checkpoint={bert}"])


def test_code_that_comes_with_a_model_does_not_run_unasked(bert, words, tmp_path):
    import json

    path = tmp_path / "bert" / "config.json"
    config = json.loads(path.read_text()) | {
        "model_type": "made_here",
        "auto_map": {"AutoConfig": "made.Made", "AutoModel": "made.M"},
    }
    path.write_text(json.dumps(config))
    (tmp_path / "bert" / "made.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(StateshiftError, match="comes with Python code of its own.*--trust-remote-code"):
        input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={bert}"]))
    assert not (tmp_path / "ran").exists()


def test_molecules_are_named_by_a_column_or_by_their_smiles(write):
    path = write("m.csv", "id,smiles\na,CC\nb,CO\nc,CC\n")
    assert read_molecules(path) == {"CC": "CC", "CO": "CO"}
    assert read_molecules(path, name_column="id") == {"a": "CC", "b": "CO", "c": "CC"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,smile\na,CC\n", r"no column `smiles` \(did you mean `smile`\?\)"),
        ("id,smiles\na,CC\nb,\n", "line 3: `smiles` is empty"),
        ("id,smiles\na,CC\na,CO\n", "line 3: `a` is another molecule further up"),
        ("id,smiles\n", "holds no molecules"),
    ],
)
def test_tables_without_molecules_are_refused(text, said, write):
    with pytest.raises(InputProblems, match=said):
        read_molecules(write("m.csv", text), name_column="id")


def test_without_an_encoder_or_without_transformers_the_way_out_is_told(words, monkeypatch):
    with pytest.raises(StateshiftError, match=r"encoder\.checkpoint=NAME or FOLDER"):
        input_table(read_settings("bbbp", words))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(StateshiftError, match=r"pip install 'stateshift\[molecules\]'"):
        input_table(read_settings("bbbp", [*words, "encoder.checkpoint=some/model"]))


def test_a_folder_without_a_model_is_told(words, tmp_path, transformers):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateshiftError, match=r"encoder\.checkpoint=.*empty can't be loaded"):
        input_table(read_settings("bbbp", [*words, f"encoder.checkpoint={tmp_path / 'empty'}"]))
