"""create_features as a user runs it: genes in, a table with its provenance out, or one clear refusal."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import shutil

import numpy as np
import pytest
import torch

from stateshift import __version__
from stateshift.catalogue.entries import entry
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features, read_gene_list
from stateshift.files import sha256
from stateshift.proteins import Recipe, StoreWriter, embed_proteins, embed_sequences, load_esm2
from stateshift.proteins.esm2.models import DEMO, DEMO_FILE

SEQUENCES = {
    "AAA1": "MKVLAAGGWERTSPQHNC",
    "BBB2": "MSTNPKPQRKTKRNTNRRPQDVKFPGG",
    "CCC3": "MDLSALRVEEVQNVINAMQKILECPICLELIKEPVSTK",
    "DDD4": "MGSSHHHHHHSSGLVPRGSH" * 60,
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A gene list, a FASTA, an output name; no proteome downloaded."""
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    fasta = tmp_path / "proteins.fasta"
    fasta.write_text("".join(f">sp|P{i}|X_HUMAN GN={g} PE=1\n{s}\n" for i, (g, s) in enumerate(SEQUENCES.items())))
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join(SEQUENCES))
    return {"gene_list": genes, "fasta": fasta, "output": tmp_path / "made" / "f.pt"}


def provenance(output):
    return json.loads(output.with_name(output.name + ".json").read_text())


def test_each_gene_gets_the_embedding_of_its_protein_in_the_files_contract(job):
    table = create_features(**job)
    expected = dict(embed_proteins(load_esm2(), SEQUENCES))
    content = torch.load(job["output"], weights_only=True)
    assert list(content) == list(SEQUENCES) == table.genes
    for gene, vector in content.items():
        assert (vector.dtype, vector.shape) == (torch.float32, (128,))
        np.testing.assert_allclose(vector.numpy(), expected[gene], atol=1e-5)
    assert [p.name for p in job["output"].parent.iterdir() if "resume" in p.name or "part" in p.name] == []


def test_the_provenance_tells_model_pooling_windows_fasta_and_versions(job):
    create_features(**job)
    told = provenance(job["output"])
    assert told["source"] == "esm2"
    assert (told["model"], told["model_sha256"], told["demo"]) == (DEMO, sha256(DEMO_FILE), True)
    assert (told["layer"], told["pooling"]) == (4, "mean")
    assert told["windows"].startswith("over 1022 residues: windows of 1022 every 766")
    assert told["in_windows"] == ["DDD4"]
    assert (told["fasta"], told["fasta_sha256"]) == ("proteins.fasta", sha256(job["fasta"]))
    assert told["proteins"]["BBB2"] == "sp|P1|X_HUMAN"
    assert (told["missing"], told["missing_policy"], told["stateshift"]) == ({}, {}, __version__)
    assert told["date"].endswith("+00:00")


def test_the_log_says_plainly_that_the_demo_model_serves(job, caplog):
    with caplog.at_level(logging.INFO):
        create_features(**job)
    assert "embedded demo model" in caplog.text
    assert "not for research" in caplog.text


def test_genes_without_a_protein_are_all_listed_before_any_model_is_loaded(job):
    job["gene_list"].write_text("AAA1\nAAA11\nNOPE\n")
    with pytest.raises(StateshiftError) as caught:
        create_features(**job, checkpoint="no_such_model.pt")
    assert "2 of 3 genes" in str(caught.value)
    assert "AAA11: no protein has this symbol (nearest: `AAA1`, another gene unless it was misspelt)" in str(
        caught.value
    )
    assert "NOPE" in str(caught.value)
    assert "--missing zero, mean or drop" in str(caught.value)
    assert not job["output"].exists()


def test_genes_under_other_names_get_their_protein_and_the_report_and_provenance_tell_how(job, tmp_path, caplog):
    table = "symbol\talias_symbol\tprev_symbol\tensembl_gene_id\nBBB2\tOLDB\t\tENSG00000000002\nCCC3\tX1\t\t\nDDD4\t\tX1\t\n"
    (tmp_path / "hgnc.txt").write_text(table)
    job["gene_list"].write_text("aaa1\nOLDB\nENSG00000000002.7\nX1\n")
    named = {"aliases": tmp_path / "hgnc.txt", "coverage": tmp_path / "coverage.csv"}
    with pytest.raises(StateshiftError, match=r"1 of 4 genes.*\n  - X1: one name of several genes.*alias of CCC3"):
        create_features(**job, **named)
    rows = {row["gene"]: row for row in csv.DictReader((tmp_path / "coverage.csv").read_text().splitlines())}
    assert (rows["OLDB"]["matched_by"], rows["X1"]["protein"]) == ("alias of BBB2 (HGNC)", "")
    with caplog.at_level(logging.INFO):
        made = create_features(**job, **named, missing="drop")
    np.testing.assert_array_equal(made.matrix(["OLDB"]), made.matrix(["ENSG00000000002.7"]))
    assert provenance(job["output"])["matched_by"] == {
        "aaa1": "spelling of AAA1",
        "OLDB": "alias of BBB2 (HGNC)",
        "ENSG00000000002.7": "Ensembl id of BBB2 (HGNC)",
    }
    assert "3 of them go by another name there: aaa1 (spelling of AAA1)" in caplog.text


def test_genes_that_mostly_differ_in_case_are_doubted_as_another_species(job, caplog):
    job["gene_list"].write_text("Aaa1\nBbb2\nCCC3\n")
    create_features(**job)
    assert "is it another species' (Aaa1, Bbb2)?" in caplog.text


def test_zero_mean_and_drop_do_what_they_say_and_are_recorded_gene_by_gene(job):
    genes = ["NOPE", *SEQUENCES]
    job["gene_list"].write_text("\n".join(genes))
    made = {}
    for policy in ("zero", "mean", "drop"):
        job["output"] = job["output"].with_name(f"{policy}.pt")
        made[policy] = create_features(**job, missing=policy)
        assert provenance(job["output"])["missing"] == {"NOPE": "no protein has this symbol"}
        assert provenance(job["output"])["missing_policy"] == {"NOPE": policy}
    assert made["drop"].genes == list(SEQUENCES)
    assert made["zero"].genes == made["mean"].genes == genes
    np.testing.assert_array_equal(made["zero"].matrix(["NOPE"]), np.zeros((1, 128)))
    np.testing.assert_allclose(made["mean"].matrix(["NOPE"])[0], made["drop"].vectors.mean(0), atol=1e-7)
    np.testing.assert_array_equal(made["zero"].vectors[1:], made["drop"].vectors)


def test_no_policy_makes_a_table_out_of_nothing(job):
    job["gene_list"].write_text("NOPE\nNADA\n")
    with pytest.raises(StateshiftError, match="None of the 2 genes has a vector: NOPE, NADA"):
        create_features(**job, missing="zero")
    assert not job["output"].parent.exists()


def test_an_output_that_holds_every_gene_is_kept_to_the_byte_and_said_so(job, caplog):
    FeatureTable([*SEQUENCES, "MORE"], np.ones((5, 3))).save(job["output"])
    before = job["output"].read_bytes()
    with caplog.at_level(logging.INFO):
        table = create_features(**{**job, "fasta": None})
    assert table.width == 3
    assert job["output"].read_bytes() == before
    assert "holds all 4 genes already and is kept" in caplog.text


def test_an_output_that_lacks_a_gene_or_is_no_table_is_refused_and_replaced_when_asked(job):
    FeatureTable(["AAA1", "BBB2", "CCC3"], np.ones((3, 3))).save(job["output"])
    with pytest.raises(StateshiftError, match=r"exists and lacks DDD4.*--overwrite"):
        create_features(**job)
    job["output"].write_text("notes")
    with pytest.raises(StateshiftError, match=r"not a feature table.*--overwrite"):
        create_features(**job)
    assert job["output"].read_text() == "notes"
    create_features(**job, overwrite=True)
    assert len(FeatureTable.load(job["output"])) == 4


def test_a_run_killed_midway_goes_on_with_the_rest_alone(job, monkeypatch):
    import stateshift.proteins.store.fill as filling
    from stateshift.proteins.embedding.embed import embed_group

    embedded = []

    def one_at_a_time(esm, texts, group, layer, die_after):
        for number, rows in embed_group(esm, texts, group, layer):
            if len(embedded) == die_after:
                raise KeyboardInterrupt
            embedded.append(texts[number])
            yield number, rows

    monkeypatch.setattr(filling, "embed_group", lambda *given: one_at_a_time(*given, die_after=2))
    with pytest.raises(KeyboardInterrupt):
        create_features(**job)
    assert not job["output"].exists()
    first = embedded.copy()
    assert len(first) == 2

    embedded.clear()
    monkeypatch.setattr(filling, "embed_group", lambda *given: one_at_a_time(*given, die_after=99))
    resumed = create_features(**job)
    assert sorted(first + embedded) == sorted(SEQUENCES.values())
    assert list(job["output"].parent.glob("*resume*")) == []
    whole = create_features(**{**job, "output": job["output"].with_name("whole.pt")})
    np.testing.assert_allclose(resumed.vectors, whole.vectors, atol=1e-6)


def test_another_checkpoint_does_not_take_up_the_demo_models_embeddings(job, tmp_path):
    from argparse import Namespace

    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(DEMO_FILE, weights_only=True)
    content["model"] = {k: v + 0.01 for k, v in content["model"].items()}
    torch.save(content, tmp_path / "other.pt")
    job["output"].parent.mkdir()
    unfinished, demo = job["output"].with_name("f.pt.resume"), load_esm2()
    with StoreWriter(unfinished, SEQUENCES, Recipe().settings(demo), model=DEMO, width=128) as store:
        store.add(0, {"protein": np.full(128, 7.0)})
    table = create_features(**job, checkpoint=str(tmp_path / "other.pt"))
    assert not np.allclose(table.matrix(["AAA1"]), 7.0)
    assert "demo" not in provenance(job["output"])
    assert provenance(job["output"])["model"] == "other"


def unfinished_store(job, settings):
    """A store that an earlier run left, a vector of sevens in it; still open."""
    job["output"].parent.mkdir()
    store = StoreWriter(job["output"].with_name("f.pt.resume"), SEQUENCES, settings, model=DEMO, width=128)
    store.add(0, {"protein": np.full(128, 7.0)})
    return store


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pooling": "weighted"}, "`weighted` is no pooling(?!.*weighted)"),
        ({"pooling": "maxx"}, "did you mean `max`"),
        ({"layer": 5}, "layers 0 to 4"),
        ({"layer": 34, "checkpoint": "esm2_t33_650M_UR50D"}, "layers 0 to 33"),
    ],
)
def test_a_pooling_or_layer_that_is_none_is_refused_before_anything_is_read(job, monkeypatch, options, told):
    monkeypatch.setattr("stateshift.features.create._wanted_genes", lambda *_: pytest.fail("the genes were read"))
    with pytest.raises(StateshiftError, match=told):
        create_features(**job, **options)


def test_unfinished_work_that_was_cut_short_is_gone_on_with(job, caplog):
    caplog.set_level(logging.INFO)
    with unfinished_store(job, Recipe().settings(load_esm2())) as store:
        path = store.path
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 100)
    np.testing.assert_array_equal(create_features(**job).matrix(["AAA1"]), 7.0)
    assert "begun anew" not in caplog.text


def test_unfinished_work_that_another_process_is_writing_is_left_alone(job):
    with (
        unfinished_store(job, {"of": "another model"}) as store,
        pytest.raises(StateshiftError, match="f.pt.resume is being written by another process"),
    ):
        create_features(**job)
    assert store.path.exists()


def test_an_id_of_two_sequences_is_refused_before_a_model_is_loaded(job):
    job["fasta"].write_text(job["fasta"].read_text() + ">sp|P0|X_HUMAN GN=AAA1 PE=1\nMKV\n")
    with pytest.raises(StateshiftError, match="`sp.P0.X_HUMAN` names two different sequences"):
        create_features(**job)


def test_layer_and_pooling_are_the_ones_asked_for(job):
    table = create_features(**job, layer=2, pooling="max")
    rows = dict(embed_sequences(load_esm2(engine="fair-esm"), SEQUENCES, layer=2))
    for gene in SEQUENCES:
        np.testing.assert_allclose(table.matrix([gene])[0], rows[gene].residues.max(0), atol=1e-5)
    assert (provenance(job["output"])["layer"], provenance(job["output"])["pooling"]) == (2, "max")


def test_without_a_fasta_one_sentence_names_the_flags(job):
    with pytest.raises(StateshiftError, match=r"--fasta, .*--lookup") as caught:
        create_features(**{**job, "fasta": None})
    assert "\n" not in str(caught.value)


def test_the_downloaded_proteome_serves_where_no_fasta_is_named(job, tmp_path):
    name = entry("uniprot_human").files[0].name
    (tmp_path / "cache" / "uniprot_human").mkdir(parents=True)
    (tmp_path / "cache" / "uniprot_human" / name).write_bytes(gzip.compress(job["fasta"].read_bytes()))
    assert create_features(**{**job, "fasta": None}).genes == list(SEQUENCES)
    assert provenance(job["output"])["fasta"] == name


def test_onehot_needs_neither_proteins_nor_model(job):
    table = create_features(gene_list=job["gene_list"], output=job["output"], source="onehot")
    np.testing.assert_array_equal(table.vectors, np.eye(4))
    assert provenance(job["output"])["source"] == "onehot"


def test_arguments_that_contradict_each_other_are_refused(job, tmp_path):
    FeatureTable(list(SEQUENCES), np.ones((4, 3))).save(tmp_path / "t.pt")
    cases = [
        ({"from_toml": tmp_path / "a.toml"}, "one of --from-toml"),
        ({"gene_list": None}, "one of --from-toml"),
        ({"source": "esm3"}, "no feature source `esm3` .did you mean `esm2`"),
        ({"missing": "zeros"}, "did you mean `zero`"),
        ({"output": tmp_path}, "is a folder"),
        ({"lookup": tmp_path / "t.pt"}, "--fasta: `table` doesn't read it, esm2, structure, rag_esm do. Leave it out"),
        ({"source": "onehot", "layer": 2}, "--fasta: `onehot` doesn't.*--layer: `onehot` doesn't read it, esm2 does"),
        ({"lookup": tmp_path / "t.pt", "fasta": None, "output": tmp_path / "t.pt"}, "both the --lookup and the"),
        ({"source": "table", "fasta": None}, "name the file with --lookup"),
        ({"gene_list": tmp_path / "absent.txt"}, "no such list of genes"),
        ({"fasta": tmp_path / "absent.fasta"}, "no such FASTA"),
        ({"checkpoint": "esm2_650M"}, "esm2_t33_650M_UR50D"),
        ({"layer": 5}, "layers 0 to 4"),
        ({"pooling": "maen"}, "did you mean `mean`"),
        ({"pooling": "weighted"}, "`weighted` is no pooling"),
    ]
    for changed, told in cases:
        with pytest.raises(StateshiftError, match=told):
            create_features(**{**job, **changed})
        assert not job["output"].exists()


def test_gene_lists_are_read_from_text_and_csv_with_or_without_header(tmp_path, caplog):
    cases = {
        "plain.txt": "TP53\n\n KLF1 \nTP53\nKLF1+MYC\n",
        "headed.txt": "target_gene\nTP53\nKLF1\nMYC\n",
        "table.csv": "gene,n_cells\nTP53,10\nKLF1,20\nMYC,30\n",
        "quoted.csv": '"Symbol","note"\n"TP53","a, b"\n"KLF1",""\n"MYC",""\n',
        "table.tsv": "TP53\t10\nKLF1\t20\nMYC\t5\n",
        "bom.csv": "\ufeffgene\r\nTP53\r\nKLF1\r\nMYC\r\n",
    }
    for name, text in cases.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        with caplog.at_level(logging.INFO):
            caplog.clear()
            assert read_gene_list(tmp_path / name) == ["TP53", "KLF1", "MYC"], name
        assert ("taken for a header" in caplog.text) == (name not in ("plain.txt", "table.tsv")), name


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "names no genes"),
        (b"gene\n\n", "names no genes"),
        (b",gene\n0,TP53\n1,KLF1\n", "its first column holds numbers"),
        (b"\xff\xfe\x00T", "can't be read as a list of genes"),
    ],
)
def test_a_list_without_symbols_is_refused(tmp_path, content, told):
    (tmp_path / "g.csv").write_bytes(content)
    with pytest.raises(StateshiftError, match=told):
        read_gene_list(tmp_path / "g.csv")


def test_real_genes_without_a_sequence_are_reported_by_name(shared_data, tmp_path):
    absent = ["MIDN", "FOXO4", "IER5L", "MAP3K21", "TMSB4X", "NIT1"]
    (tmp_path / "genes.txt").write_text("\n".join(["KLF1", "HK2", *absent]))
    job = {
        "gene_list": tmp_path / "genes.txt",
        "fasta": shared_data / "proteins" / "human_subset.fasta",
        "output": tmp_path / "f.pt",
    }
    with pytest.raises(StateshiftError) as caught:
        create_features(**job)
    assert "6 of 8 genes" in str(caught.value)
    assert all(f"- {gene}: " in str(caught.value) for gene in absent)
    table = create_features(**job, missing="drop")
    assert table.genes == ["KLF1", "HK2"]
    assert list(table.provenance["missing"]) == absent
    assert 0 < np.corrcoef(table.vectors)[0, 1] < 0.9999


def test_the_genes_of_an_experiment_are_found_and_its_doubles_split(tmp_path):
    import anndata
    import pandas as pd

    labels = ["non-targeting"] * 4 + ["KLF1"] * 3 + ["KLF1+MYC"] * 3
    obs = pd.DataFrame({"target_gene": labels, "cell_type": "k562", "batch": "b"})
    obs.index = obs.index.astype(str)
    folder = tmp_path / "data"
    folder.mkdir()
    X = np.log1p(np.random.default_rng(0).poisson(2, (10, 5))).astype(np.float32)
    anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=list("ABCDE"))).write_h5ad(folder / "one.h5ad")
    toml = tmp_path / "e.toml"
    toml.write_text(f'[datasets]\nd = "{folder}/one.h5ad"\n[training]\nd = "train"\n')
    table = create_features(from_toml=toml, source="onehot", output=tmp_path / "f.pt")
    assert table.genes == ["KLF1", "MYC"]


def test_a_copied_demo_checkpoint_is_still_called_a_demo(job, tmp_path):
    shutil.copy(DEMO_FILE, tmp_path / "esm2_t33.pt")
    create_features(**job, checkpoint=str(tmp_path / "esm2_t33.pt"))
    assert provenance(job["output"])["demo"] is True
