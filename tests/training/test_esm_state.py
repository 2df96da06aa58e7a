"""Runs whose encoder reads gene names: trained, resumed, moved, and asked for genes that no table held."""

import argparse
import csv
import json
import logging
import shutil

import anndata as ad
import numpy as np
import pytest
import torch
from esm.model.esm2 import ESM2

from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features
from stateshift.features.on_the_fly import GeneEmbedder
from stateshift.prediction import predict
from stateshift.run import RunDirectory
from stateshift.training import resume, train

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "model.dropout=0",
    "training.lr=1e-3", "training.max_steps=6", "training.val_every=3", "training.accelerator=cpu",
]  # fmt: skip
LETTERS = list("LAGVSERTIDPKQNFYMHWC")


def write_fasta(path, lengths, seed=0):
    rng = np.random.default_rng(seed)
    sequences = {gene: "".join(rng.choice(LETTERS, length)) for gene, length in lengths.items()}
    path.write_text("".join(f">sp|{gene}|{gene}_HUMAN x GN={gene}\n{text}\n" for gene, text in sequences.items()))
    return sequences


@pytest.fixture
def proteins(tmp_path, monkeypatch):
    """A FASTA of the screen's genes and of two that nobody perturbed, and a cache of this test's own."""
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    lengths = {"G1": 30, "G2": 41, "G3": 25, "G4": 33, "NEW1": 28, "NEW2": 36}
    write_fasta(tmp_path / "human.fasta", lengths)
    return tmp_path / "human.fasta"


@pytest.fixture
def esm_maker(tmp_path):
    """Write a random ESM2 model of two layers, 16 wide, in fair-esm's layout."""

    def make(name, seed=0):
        torch.manual_seed(seed)
        weights = {k: v for k, v in ESM2(2, 16, 4).state_dict().items() if not k.startswith("contact_head")}
        prefixed = {
            ("encoder." if k.startswith("lm_head") else "encoder.sentence_encoder.") + k: v for k, v in weights.items()
        }
        told = argparse.Namespace(encoder_layers=2, encoder_embed_dim=16, encoder_attention_heads=4, token_dropout=True)
        torch.save({"cfg": {"model": told}, "model": prefixed}, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def screen(screen, proteins):
    """The small screen with ESM2 features of the embedded demo model."""
    with open(screen.toml, "a") as handle:
        handle.write('[features]\nsource = "esm2"\nfasta = "human.fasta"\n')
    return screen


def trained(screen, *words, name="run", **options):
    return train(
        screen.toml, ["model=esm_state", *SMALL, *words], output_dir=screen.folder / "runs", name=name, **options
    )


def metrics(run):
    with open(run / "metrics.csv") as handle:
        return list(csv.DictReader(handle))


def predicted(run, screen, perturb, **options):
    output = screen.folder / f"p{len(list(screen.folder.glob('p*.h5ad')))}.h5ad"
    predict(run, cells=screen.cells, perturb=perturb, output=output, contexts=["T98G"], **options)
    adata = ad.read_h5ad(output)
    return adata[~adata.obs["is_control"]]


def table_of(screen, genes, output="features_all.pt"):
    (screen.folder / "genes.txt").write_text("\n".join(genes))
    return create_features(
        gene_list=screen.folder / "genes.txt", fasta=screen.folder / "human.fasta", output=screen.folder / output
    )


def test_training_by_names_is_training_on_the_table_of_the_same_vectors(screen):
    by_name = trained(screen, "model.start=none")
    by_table = trained(screen, "model.start=none", "model.encoder=table", "model.unfreeze_esm_layers=0", name="table")
    assert metrics(by_name) == metrics(by_table)
    a, b = (predicted(run, screen, "G4,G1+G2") for run in (by_name, by_table))
    np.testing.assert_allclose(a.X.toarray(), b.X.toarray(), atol=1e-6)
    assert set(a.obs["route"]) == {"neural"}
    stored = torch.load(by_name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert "model.pert_encoder.vectors" not in stored


def test_a_run_resumes_where_an_uninterrupted_one_is(screen):
    whole = trained(screen, "training.max_steps=9", name="whole")
    halves = trained(screen, name="halves")
    resume(halves, ["training.max_steps=9"])
    assert metrics(halves) == metrics(whole)
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, halves))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_gene_of_no_table_is_predicted_as_if_a_table_had_held_it(screen):
    run = trained(screen)
    table_of(screen, ["NEW1", "NEW2"])
    plain = predicted(run, screen, "NEW1,G1+NEW2")
    with_table = predicted(run, screen, "NEW1,G1+NEW2", features=screen.folder / "features_all.pt")
    np.testing.assert_allclose(plain.X.toarray(), with_table.X.toarray(), atol=1e-6)


def test_a_gene_embedded_on_the_fly_has_the_vector_of_create_esm_pert_features_and_is_embedded_once(
    screen, monkeypatch
):
    run = trained(screen)
    theirs = table_of(screen, ["NEW1", "NEW2", "G1"])
    made, missing = GeneEmbedder.of_run(RunDirectory(run)).embed(["NEW1", "NEW2", "G1", "NOSUCH"])
    np.testing.assert_allclose(made.vectors, theirs.vectors, atol=1e-6)
    assert list(missing) == ["NOSUCH"]
    monkeypatch.setattr(GeneEmbedder, "load", lambda *_, **__: pytest.fail("the model was loaded again"))
    again, _ = GeneEmbedder.of_run(RunDirectory(run)).embed(["NEW2"])
    np.testing.assert_array_equal(again.vectors, made.subset(["NEW2"]).vectors)


def test_a_gene_without_a_protein_is_refused_with_a_near_miss_or_takes_the_fallback(screen):
    run = trained(screen)
    with pytest.raises(StateshiftError, match=r"No feature vector for NEW11 .*nearest: `NEW1`"):
        predicted(run, screen, "NEW11")
    made = predicted(run, screen, "NEW11,NEW1", missing="fallback")
    route = made.obs.groupby("target_gene", observed=True)["route"].agg(set)
    assert route["NEW11"] == {"fallback"}
    assert route["NEW1"] == {"neural"}


def test_a_trained_gene_in_another_capitalisation_is_not_taken_for_a_new_one(screen):
    run = trained(screen)
    with pytest.raises(StateshiftError, match="`g1` is `G1` of .*spelt otherwise"):
        predicted(run, screen, "g1,NEW1")


def test_a_moved_run_predicts_and_embeds_with_the_fasta_that_is_named(screen):
    run = trained(screen)
    before = predicted(run, screen, "G4,NEW1")
    moved = screen.folder / "elsewhere" / "far" / "moved"
    moved.parent.mkdir(parents=True)
    shutil.move(run, moved)
    fasta = shutil.move(screen.folder / "human.fasta", screen.folder / "other.fasta")
    np.testing.assert_array_equal(
        predicted(moved, screen, "G4").X.toarray(), before[before.obs["target_gene"] == "G4"].X.toarray()
    )
    with pytest.raises(StateshiftError, match="NEW1.*no proteins are at hand: name a FASTA"):
        predicted(moved, screen, "NEW1")
    after = predicted(moved, screen, "G4,NEW1", fasta=fasta)
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())
    assert str(screen.folder) not in (moved / "esm.json").read_text()


def test_a_fasta_of_another_version_is_told_and_the_runs_vectors_stay(screen, caplog):
    run = trained(screen)
    before = predicted(run, screen, "G1")
    write_fasta(screen.folder / "newer.fasta", {"G1": 31, "G2": 41, "NEW1": 28}, seed=5)
    with caplog.at_level(logging.WARNING):
        after = predicted(run, screen, "G1,NEW1", fasta=screen.folder / "newer.fasta")
    assert "newer.fasta has other proteins than the run's for G1, G2, whose vectors stay" in caplog.text
    np.testing.assert_array_equal(after[after.obs["target_gene"] == "G1"].X.toarray(), before.X.toarray())


def test_another_checkpoint_than_the_runs_is_refused(screen, esm_maker):
    run = trained(screen)
    with pytest.raises(StateshiftError, match="is another model than the run's stateshift-demo-esm2"):
        predicted(run, screen, "NEW1", checkpoint=str(esm_maker("other.pt")))
    with pytest.raises(StateshiftError, match=r"no such checkpoint file.*--checkpoint"):
        predicted(run, screen, "NEW1", checkpoint="gone.pt")


def test_a_table_without_provenance_is_held_against_the_checkpoint_that_is_named_for_it(screen):
    table_of(screen, ["G1", "G2", "G3", "G4"], "bare.pt")
    (screen.folder / "bare.pt.json").unlink()
    text = screen.toml.read_text().partition("[features]")[0]
    named = 'table = "bare.pt"\nfasta = "human.fasta"\ncheckpoint = "stateshift-demo-esm2"\n'
    screen.toml.write_text(f"{text}[features]\n{named}")
    run = trained(screen)
    predicted(run, screen, "NEW1")
    screen.toml.write_text(f'{text}[features]\n{named}pooling = "max"\n')
    with pytest.raises(StateshiftError, match="pooling max\\) does not give the table's vector of G3"):
        trained(screen, name="wrong")
    screen.toml.write_text(f'{text}[features]\ntable = "bare.pt"\n')
    bare = trained(screen, name="bare")
    assert not (bare / "esm.json").exists()
    with pytest.raises(StateshiftError, match="No feature vector for NEW1"):
        predicted(bare, screen, "NEW1")
    with pytest.raises(StateshiftError, match="--fasta embeds genes for a run that recorded an ESM2 model"):
        predicted(bare, screen, "NEW1", fasta=screen.folder / "human.fasta")


def test_a_damaged_record_is_told(screen):
    run = trained(screen)
    record = json.loads((run / "esm.json").read_text())
    (run / "esm.json").write_text(json.dumps({k: v for k, v in record.items() if k != "fasta"}))
    with pytest.raises(StateshiftError, match="esm.json is damaged"):
        predicted(run, screen, "G1")


@pytest.mark.parametrize("layers", [1, 2])
def test_unfrozen_layers_start_at_the_tables_vectors_and_are_trained_at_their_own_rate(screen, layers):
    frozen = trained(screen, "model.start=none", name="frozen")
    words = ["model.start=none", f"model.unfreeze_esm_layers={layers}", "training.esm_lr=1e-3"]
    run = trained(screen, *words)
    np.testing.assert_allclose(float(metrics(run)[0]["val_loss"]), float(metrics(frozen)[0]["val_loss"]), rtol=1e-5)
    assert metrics(run)[-1]["val_loss"] != metrics(frozen)[-1]["val_loss"]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert [group["lr"] for group in last["optimizer_states"][0]["param_groups"]] == [1e-3, 1e-3, 1e-3, 1e-3]
    names = [name for name in last["state_dict"] if ".last_layers.blocks." in name]
    assert len(names) == layers * 12


def test_unfrozen_layers_resume_move_and_predict_new_genes(screen):
    words = ["model.unfreeze_esm_layers=1", "training.esm_lr=1e-2"]
    whole = trained(screen, *words, "training.max_steps=9", name="whole")
    halves = trained(screen, *words, name="halves")
    resume(halves, ["training.max_steps=9"])
    assert metrics(halves) == metrics(whole)
    before = predicted(whole, screen, "G4,NEW1")
    shutil.move(whole, screen.folder / "moved")
    after = predicted(screen.folder / "moved", screen, "G4,NEW1", fasta=screen.folder / "human.fasta")
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())


def test_on_another_machine_unfrozen_layers_want_the_checkpoint_below_them(screen, esm_maker, monkeypatch):
    file = esm_maker("own.pt")
    with open(screen.toml, "a") as handle:
        handle.write('checkpoint = "own.pt"\n')
    run = trained(screen, "model.unfreeze_esm_layers=1", "training.esm_lr=1e-2")
    before = predicted(run, screen, "G4")
    moved = shutil.move(run, screen.folder / "moved")
    file = file.rename(screen.folder / "cache" / "renamed.pt")
    monkeypatch.setenv("STATESHIFT_CACHE", str(screen.folder / "fresh"))
    with pytest.raises(StateshiftError, match="The run needs own: name its file with --checkpoint"):
        predicted(moved, screen, "G4")
    after = predicted(moved, screen, "G4", checkpoint=str(file))
    np.testing.assert_allclose(after.X.toarray(), before.X.toarray(), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.unfreeze_esm_layers=9"], "model.unfreeze_esm_layers=9: the ESM2 model has 4 layers"),
        (["model.unfreeze_esm_layers=-1"], "model.unfreeze_esm_layers=-1 has to be a whole number"),
        (["model.encoder=table", "model.unfreeze_esm_layers=1"], "model.encoder=table holds no ESM2"),
        (["model.encoder=esn"], "did you mean `esm`"),
        (["training.esm_lr=0"], "training.esm_lr=0 has to be a number above 0"),
        (["model.unfreeze_esm_layers=1", "training.precision=bf16-true"], "training.precision=bf16-true"),
    ],
)
def test_options_that_cannot_be_had_are_named_and_leave_no_run(screen, words, told):
    with pytest.raises(StateshiftError, match=told):
        trained(screen, *words)
    assert not (screen.folder / "runs" / "run").exists()


def test_a_run_on_a_table_goes_on_by_gene_name_with_the_weights_that_it_has(screen):
    table = trained(screen, "model.encoder=table", "training.lr=1e-2", name="table")
    tuned = [
        train(screen.toml, [*SMALL, word], output_dir=screen.folder / "runs", name=f"tuned{i}", init_from=table)
        for i, word in enumerate(("model.encoder=esm", "model=esm_state"))
    ]
    (kept,) = [
        part
        for part in json.loads((tuned[0] / "init_from.json").read_text())["parts"]
        if part["name"] == "pert_encoder"
    ]
    assert kept["state"] == "kept"
    assert metrics(tuned[0])[0]["val_loss"] == metrics(tuned[1])[0]["val_loss"]
    for run in tuned:
        assert RunDirectory(run).config()["model"]["encoder"] == "esm"
        assert (predicted(run, screen, "NEW1").obs["route"] == "neural").all()
    again = train(screen.toml, SMALL, output_dir=screen.folder / "runs", name="again", init_from=tuned[0])
    assert RunDirectory(again).config()["model"]["encoder"] == "esm"


def test_unfrozen_layers_without_proteins_are_refused(screen):
    table = FeatureTable(["G1", "G2", "G3", "G4"], np.eye(4, dtype=np.float32), {"source": "made"})
    table.save(screen.folder / "made.pt")
    with pytest.raises(StateshiftError, match="reads proteins: name the checkpoint and the fasta"):
        trained(screen, "model.unfreeze_esm_layers=1", pert_features=screen.folder / "made.pt")
