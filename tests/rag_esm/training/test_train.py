"""Masks and batches by hand; a small training, its resume, and what it refuses."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
import yaml

from stateshift.errors import InputProblems, StateshiftError
from stateshift.rag_esm.homologs.data import make_data, read_data
from stateshift.rag_esm.model.checkpoint import load_rag_esm, new_rag_esm
from stateshift.rag_esm.model.tokens import MASK, tokens_of
from stateshift.rag_esm.training.batches import Batches
from stateshift.rag_esm.training.masking import IGNORED, diffusion_rate, masked
from stateshift.rag_esm.training.settings import presets, read_settings, settings_of
from stateshift.rag_esm.training.train import _begun, train_rag_esm
from stateshift.rag_esm.training.validation import masked_losses

SMALL = [
    "base=null", "max_length=64", "max_context=64", "tokens_per_batch=300", "accumulate=2", "precision=32-true",
    "val_every=4", "val_proteins=4",
]  # fmt: skip


@pytest.fixture
def data(families, tmp_path):
    fasta, classes = families
    make_data(fasta, tmp_path / "data", classes=classes, val_share=0.25)
    return tmp_path / "data"


def metrics(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


def test_as_many_residues_are_hidden_as_asked_for_and_corrupted_80_10_10(protein_maker):
    tokens = tokens_of([protein_maker(400, i) for i in range(40)])
    shown, targets = masked(tokens, 0.5, np.random.default_rng(0))
    hidden = targets != IGNORED
    assert (hidden.sum(1) == 200).all()
    assert torch.equal(targets[hidden], tokens[hidden])
    assert torch.equal(shown[~hidden], tokens[~hidden])
    share = (shown[hidden] == MASK).float().mean(), (shown[hidden] == tokens[hidden]).float().mean()
    # a random amino acid is the true one once in twenty
    np.testing.assert_allclose(share, [0.8, 0.1 + 0.1 / 20], atol=0.02)


def test_ends_and_padding_are_never_hidden():
    shown, targets = masked(tokens_of(["MKVLAG", "M"]), 0.99, np.random.default_rng(0), corrupt=False)
    assert shown.tolist() == [[0, *[32] * 6, 2], [0, 32, 2, 1, 1, 1, 1, 1]]
    assert (targets[1] != IGNORED).tolist() == [False, True, *[False] * 6]


def test_diffusion_rates_are_the_stated_mixture():
    rates = np.array([diffusion_rate(np.random.default_rng(i)) for i in range(4000)])
    assert rates.mean() == pytest.approx(0.8 * 3 / 12 + 0.2 * 0.5, abs=0.01)
    assert (rates > 0.7).mean() == pytest.approx(0.2 * 0.3, abs=0.015)


def test_batches_keep_to_the_budget_and_are_the_same_again_from_any_number(data):
    train, _ = read_data(data)
    settings = settings_of({}, SMALL)
    whole = list(Batches(train, settings, 0, 9))
    assert all(b.tokens.numel() + b.contexts.numel() <= 300 for b in whole)
    for a, b in zip(whole[5:], Batches(train, settings, 5, 9), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3]))
    both = [list(Batches(train, settings, 0, 4, rank, 2)) for rank in (0, 1)]
    for number, batch in enumerate(whole[:8]):
        assert torch.equal(both[number % 2][number // 2].tokens, batch.tokens)


def test_the_share_that_divides_a_loss_is_what_is_hidden_and_not_what_was_drawn(data):
    train, _ = read_data(data)
    batches = Batches(train, settings_of({"masking": "mlm", "mask_rate": 0.0001}, SMALL), 0, 3)
    assert len(batches) == 3
    for batch in batches:
        # one residue of each protein, however low the rate
        assert batch.rate == pytest.approx(len(batch.tokens) / (batch.tokens > 3).sum().item())


def test_the_second_of_two_processes_takes_the_folder_that_the_first_made(tmp_path, monkeypatch):
    _begun(tmp_path / "run", {"data": "first"})
    with pytest.raises(StateshiftError, match="not empty"):
        _begun(tmp_path / "run", {})
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    assert _begun(tmp_path / "run", {"data": "second"}) == tmp_path / "run"
    assert "first" in (tmp_path / "run" / "settings.yaml").read_text()


def test_a_training_learns_from_contexts_and_a_stopped_one_goes_on_as_if_it_never_had(data, tmp_path):
    train_rag_esm(data, tmp_path / "whole", overrides=[*SMALL, "max_steps=8"])
    train_rag_esm(data, tmp_path / "cut", overrides=[*SMALL, "max_steps=4"])
    with (tmp_path / "cut" / "metrics.csv").open("a") as written:
        written.write("8" + "," * 8 + "\n")  # as of a training killed before its last weights
    train_rag_esm(resume=tmp_path / "cut", overrides=["max_steps=8"])
    whole, cut = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "cut"))
    assert whole["step"] == cut["step"] == 8
    for name, weight in whole["network"].items():
        torch.testing.assert_close(cut["network"][name], weight, msg=name)
    rows = metrics(tmp_path / "cut")
    assert [row["step"] for row in rows] == ["0", "4", "8"]
    assert sorted(rows, key=lambda row: float(row["seconds"])) == rows
    assert rows[0]["ppl_0.5"] == rows[0]["plain_0.5"]
    assert float(rows[-1]["ppl_0.5"]) < float(rows[0]["ppl_0.5"])
    best = load_rag_esm(tmp_path / "cut")
    assert best.training["step"] > 0
    assert best.base["model"] == "stateshift-demo-esm2"


@pytest.mark.parametrize(("free", "stays"), [("false", True), ("true", False)])
def test_a_frozen_esm2_stays_and_a_free_one_moves(data, tmp_path, free, stays):
    train_rag_esm(data, tmp_path / "run", overrides=[*SMALL, "max_steps=2", "val_every=1", f"train_esm={free}"])
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["network"]
    start = new_rag_esm().network.esm.state_dict()
    assert all(torch.equal(last[f"esm.{name}"], weight) for name, weight in start.items()) == stays
    assert last["cross.3.gate"] != 0


def test_plain_esm2_is_fine_tuned_by_the_same_way(data, tmp_path):
    told = [*SMALL, "max_steps=4", "cross_layers=none", "train_esm=true", "lr=0.001"]
    trained = train_rag_esm(data, tmp_path / "plain", overrides=told)
    row = metrics(tmp_path / "plain")[-1]
    assert trained.network.layers == ()
    assert row["ppl_0.9"] == row["plain_0.9"]


def test_masked_losses_are_cross_entropies_by_hand_and_no_neighbours_matter(demo_maker, protein_maker):
    network = demo_maker().network
    proteins, contexts = [protein_maker(30, i) for i in range(3)], [protein_maker(20 + i, 9 + i) for i in range(3)]
    together = masked_losses(network, proteins, contexts, 0.5)
    alone = [masked_losses(network, [p], [c], 0.5)[0] for p, c in zip(proteins, contexts)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    tokens = tokens_of(proteins[:1])
    shown, targets = masked(tokens, 0.5, np.random.default_rng([0, 30, *proteins[0].encode()]), corrupt=False)
    with torch.inference_mode():
        said = network.logits(network(shown, network.encode(tokens_of(contexts[:1])))).log_softmax(-1)[0]
    places = [i for i in range(32) if targets[0, i] != IGNORED]
    assert len(places) == 15
    assert together[0] == pytest.approx(-float(np.mean([said[i, tokens[0, i]] for i in places])), rel=1e-4)


def test_presets_are_whole_and_mistakes_are_told_together():
    assert {"8M", "base"} <= set(presets())
    for name, path in presets().items():
        assert read_settings(name).as_dict() == settings_of(yaml.safe_load(path.read_text())).as_dict()
        assert set(yaml.safe_load(path.read_text())) == set(read_settings().as_dict())
    with pytest.raises(InputProblems) as caught:
        read_settings("8M", ["maskin=mlm", "accumulate=two", "lr=quick"])
    assert len(caught.value.problems) == 3
    assert "did you mean `masking`" in str(caught.value)
    with pytest.raises(InputProblems, match=r"devices must be 1 or more, not 0\.\n.*precision `bf16` is unknown"):
        read_settings("8M", ["devices=0", "precision=bf16"])
    with pytest.raises(
        InputProblems, match=r"cross_lr must be above 0, not -1\.0\.\n.*clip must be 0 or more, not nan"
    ):
        read_settings("8M", ["cross_lr=-1", "clip=.nan"])
    with pytest.raises(InputProblems, match="leaves nothing to train"):
        read_settings("8M", ["cross_layers=none"])
    with pytest.raises(StateshiftError, match="did you mean `8M`"):
        read_settings("8m")


def test_a_resume_refuses_other_settings_and_folders_that_are_no_runs(data, tmp_path):
    train_rag_esm(data, tmp_path / "run", overrides=[*SMALL, "max_steps=1", "val_every=1"])
    with pytest.raises(StateshiftError, match="leave out lr=1"):
        train_rag_esm(resume=tmp_path / "run", overrides=["lr=1"])
    with pytest.raises(StateshiftError, match="give it more with max_steps"):
        train_rag_esm(resume=tmp_path / "run")
    with pytest.raises(StateshiftError, match="is no run"):
        train_rag_esm(resume=data)
    (data / "train.jsonl").write_text((data / "val.jsonl").read_text())
    with pytest.raises(StateshiftError, match="holds other clusters than .*run began with"):
        train_rag_esm(resume=tmp_path / "run", overrides=["max_steps=2"])
