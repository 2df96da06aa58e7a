"""Sequences by ESM2: embedded as `proteins/` does, and trained on as a baseline."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from stateshift.bioemb.encoders import input_table
from stateshift.bioemb.settings import read_settings
from stateshift.bioemb.trained import open_bioemb
from stateshift.bioemb.training.mlm import UNASKED, MaskedModule, mask_tokens, train_mlm
from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.proteins import embed_proteins, load_esm2

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture
def proteins(write) -> dict[str, str]:
    """Twenty proteins of 20 to 40 residues, G3 twice; also at ``p.fasta``."""
    rng = np.random.default_rng(0)
    made = {f"G{i}": "".join(rng.choice(list(LETTERS), 20 + i)) for i in range(20)}
    records = [f">sp|P{i:05d}|X_HUMAN GN={gene}\n{sequence}" for i, (gene, sequence) in enumerate(made.items())]
    write("p.fasta", "\n".join([*records, f">tr|Q00001|X_HUMAN GN=G3\n{made['G3'][:9]}"]) + "\n")
    return made


@pytest.fixture
def words(tmp_path) -> list[str]:
    quick = ["data.transductive=true", "mlm.epochs=2", "mlm.batch_size=8"]
    return [f"data.fasta={tmp_path / 'p.fasta'}", f"output_dir={tmp_path}", *quick]


def test_vectors_are_those_of_the_encoder_by_gene_or_by_record(proteins, words):
    table = input_table(read_settings("proteins", [*words, "data.names=gene"]))
    by_hand = dict(embed_proteins(load_esm2(), proteins))
    assert table.genes == list(proteins)
    np.testing.assert_allclose(table.vectors, [by_hand[gene] for gene in proteins], atol=1e-5)
    assert (table.provenance["model"], table.provenance["demo"]) == ("stateshift-demo-esm2", True)
    records = input_table(read_settings("proteins", words))
    assert len(records) == 21
    assert records.genes[0] == "sp|P00000|X_HUMAN"


@pytest.mark.usefixtures("tiny", "proteins")
def test_sequences_are_trained_on_from_one_config(words):
    trained = train_bioemb("proteins", [*words, "data.names=gene", "training.epochs=2", "model.bottleneck=4"])
    assert open_bioemb(trained.folder).fine_tuned().vectors.shape == (20, 4)
    assert trained.provenance(trained.table)["demo"]


@pytest.mark.usefixtures("proteins")
def test_mlm_changes_the_encoder_and_its_checkpoint_gives_the_same_vectors(words, tmp_path, proteins):
    table = train_mlm("proteins", [*words, "name=mlm", "data.names=gene", "mlm.learning_rate=1e-3"])
    before = np.stack([vector for _, vector in sorted(dict(embed_proteins(load_esm2(), proteins)).items())])
    again = dict(embed_proteins(load_esm2(tmp_path / "mlm" / "esm2.pt"), proteins))
    after = np.stack([table.vectors[table.genes.index(gene)] for gene in sorted(proteins)])
    assert np.abs(after - before).max() > 1e-2
    np.testing.assert_allclose(after, np.stack([again[gene] for gene in sorted(proteins)]), atol=1e-4)
    stored = FeatureTable.load(tmp_path / "mlm" / "features.pt")
    assert (stored.genes, stored.provenance["source"]) == (list(proteins), "mlm")
    with (tmp_path / "mlm" / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows] == ["3", "6"]


@pytest.mark.usefixtures("proteins")
def test_a_stopped_mlm_goes_on_to_the_same_end(words, tmp_path, monkeypatch):
    words = [*words, "mlm.max_length=24"]  # so that stretches are drawn
    whole = train_mlm("proteins", [*words, "name=whole"])

    class Stop(Exception):
        pass

    ends = MaskedModule.on_train_epoch_end

    def stop(self):
        ends(self)
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(MaskedModule, "on_train_epoch_end", stop)
        with pytest.raises(Stop):
            train_mlm("proteins", [*words, "name=parted"])
    run, fasta = tmp_path / "parted", tmp_path / "p.fasta"
    (run / "esm2.pt").write_text("of a kill behind the last epoch")
    text = fasta.read_text()
    fasta.write_text(text + ">more\nMKV\n")
    with pytest.raises(StateshiftError, match=r"p\.fasta, or what is held out of it, has changed"):
        train_mlm(resume=run)
    fasta.write_text(text)
    parted = train_mlm(resume=run)
    np.testing.assert_array_equal(parted.vectors, whole.vectors)
    assert (run / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    with pytest.raises(StateshiftError, match="has all its 2 epochs"):
        train_mlm(resume=run)
    with pytest.raises(StateshiftError, match="leave out seed=1"):
        train_mlm(None, ["seed=1"], resume=run)
    with pytest.raises(StateshiftError, match="it is one of train-mlm"):
        train_bioemb(resume=run)


@pytest.mark.usefixtures("proteins")
def test_mlm_learns_to_guess(words, tmp_path):
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{'ACDEFGHIKL' * 3}\n" for i in range(16)))
    train_mlm("proteins", [*words, "name=mlm", "mlm.epochs=12", "mlm.learning_rate=2e-3"])
    with (tmp_path / "mlm" / "metrics.csv").open() as handle:
        losses = [float(row["loss"]) for row in csv.DictReader(handle)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:2])


def test_tokens_are_masked_replaced_and_kept_in_the_published_shares():
    tokens = torch.randint(4, 24, (200, 200), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, -1] = 0, 2
    shown, guessed = mask_tokens(tokens, 32, (0, 1, 2), torch.arange(4, 24), 0.15, torch.Generator().manual_seed(1))
    chosen = guessed != UNASKED
    assert not chosen[:, [0, -1]].any()
    assert chosen.float().mean().item() == pytest.approx(0.15 * 198 / 200, abs=0.005)
    assert torch.equal(guessed[chosen], tokens[chosen])
    assert torch.equal(shown[~chosen], tokens[~chosen])
    assert (shown[chosen] == 32).float().mean().item() == pytest.approx(0.8, abs=0.02)
    # a replacement is the token itself once in twenty
    assert (shown[chosen] == tokens[chosen]).float().mean().item() == pytest.approx(0.1 + 0.1 / 20, abs=0.01)


def test_a_table_is_nothing_to_mask(tmp_path):
    with pytest.raises(StateshiftError, match=r"name data\.fasta or data\.molecules, no data\.table"):
        train_mlm("genes", [f"data.table={tmp_path / 't.pt'}", "data.transductive=true"])
