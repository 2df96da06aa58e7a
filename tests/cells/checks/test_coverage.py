import gzip

import numpy as np
import pytest

from stateshift.catalogue.entries import entry
from stateshift.feature_table import FeatureTable
from stateshift.training import check_experiment

GROUPS = [(c, p) for c in ("K562", "A549") for p in ("non-targeting", "G1", "G2", "G3", "G1+G2")]
TABLES = (
    '[training]\none = "train"\n[zeroshot]\n"one.A549" = "test"\n[fewshot."one.K562"]\nval = ["G3"]\n'
    '[features]\ntable = "features.pt"\n'
)


@pytest.fixture(autouse=True)
def features(tmp_path, write_file):
    write_file("one", GROUPS)
    FeatureTable(["G1", "G3"], np.eye(2)).save(tmp_path / "features.pt")


def test_perturbations_without_a_vector_are_refused_by_split(experiment, problems):
    said = problems(experiment(TABLES))
    assert [s.partition(":")[0] for s in said] == ["train", "test"]
    assert said[0] == (
        "train: 2 of 3 perturbations have no feature vector (G2): make a table that holds them (create_esm_pert_features), "
        'or leave them out by name with [features] missing = "drop".'
    )


def test_a_table_that_spells_genes_otherwise_is_told_with_the_way_to_read_it(tmp_path, experiment, problems):
    FeatureTable(["g1", "g2", "G3"], np.eye(3)).save(tmp_path / "features.pt", overwrite=True)
    said = problems(experiment(TABLES))
    assert (
        "no feature vector (G1, G2; the table spells G1 as `g1`, G2 as `g2`): find them by their other names" in said[0]
    )
    assert "lookup = the table, aliases = HGNC's table, or leave them out" in said[0]
    FeatureTable(["g1", "G2", "G3"], np.eye(3)).save(tmp_path / "features.pt", overwrite=True)
    notes = check_experiment(experiment(TABLES + 'missing = "drop"\n')).notes
    assert "1 perturbed genes have no vector; the table spells G1 as `g1`: they are left out." in notes


def test_perturbations_that_are_dropped_are_counted_by_split(experiment):
    found = check_experiment(experiment(TABLES + 'missing = "drop"\n'))
    assert [(c.split, c.covered, c.uncovered, c.missing_genes) for c in found.coverage] == [
        ("train", ["G1"], ["G1+G2", "G2"], ["G2"]),
        ("val", ["G3"], [], []),
        ("test", ["G1", "G3"], ["G1+G2", "G2"], ["G2"]),
    ]
    assert found.uncovered == ["G2"]
    assert found.features == (2, 2)


def test_a_table_that_can_not_be_read_comes_with_the_other_problems(experiment, problems, tmp_path):
    (tmp_path / "features.pt").write_text("no table")
    said = problems(experiment(TABLES.replace("K562", "K563")))
    assert len(said) == 2
    assert "K563" in said[0]
    assert "features.pt" in said[1]


FROM_PROTEINS = TABLES.replace('table = "features.pt"', 'source = "esm2"\nfasta = "human.fasta"')


def test_genes_without_a_protein_in_the_fasta_that_esm2_is_to_read_are_refused_before_training(
    experiment, problems, tmp_path
):
    (tmp_path / "human.fasta").write_text(">a GN=G1\nMKV\n>b GN=G3\nMKL\n")
    said = problems(experiment(FROM_PROTEINS))
    assert [s.partition(":")[0] for s in said] == ["train", "test"]
    assert "2 of 3 perturbations have no feature vector from `esm2` of human.fasta (G2: no protein has this" in said[0]
    assert 'drugs and cytokines take [features] source = "onehot"' in said[0]
    found = check_experiment(experiment(FROM_PROTEINS + 'missing = "drop"\n'))
    assert found.uncovered == ["G2"]
    assert found.coverage[0].uncovered == ["G1+G2", "G2"]


def test_a_fasta_that_is_not_there_comes_with_the_check(experiment, problems):
    assert any("human.fasta" in sentence for sentence in problems(experiment(FROM_PROTEINS)))


def test_without_a_fasta_the_downloaded_proteome_is_read_and_without_either_it_is_told(
    experiment, problems, tmp_path, monkeypatch
):
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    unnamed = FROM_PROTEINS.replace('fasta = "human.fasta"', "")
    assert "name a FASTA" in problems(experiment(unnamed))[0]
    name = entry("uniprot_human").files[0].name
    (tmp_path / "cache" / "uniprot_human").mkdir(parents=True)
    (tmp_path / "cache" / "uniprot_human" / name).write_bytes(gzip.compress(b">a GN=G1\nMKV\n>b GN=G3\nMKL\n"))
    assert "from `esm2` (G2: no protein has this" in problems(experiment(unnamed))[0]


def test_held_out_genes_that_one_hot_features_can_not_tell_of_are_named_before_training(experiment, tmp_path):
    toml = experiment(TABLES.replace('table = "features.pt"', 'source = "onehot"'))
    said = [note for note in check_experiment(toml).notes if "One-hot" in note]
    assert len(said) == 1
    assert said[0].startswith("One-hot features say nothing of G3, held out, in which no training cell is perturbed")
    FeatureTable(["G1", "G2", "G3"], np.eye(3), {"source": "onehot"}).save(tmp_path / "onehot.pt")
    assert said[0] in check_experiment(experiment(TABLES.replace("features.pt", "onehot.pt"))).notes


def of_source(source: str, more: str = "") -> str:
    return TABLES.replace('table = "features.pt"', f'source = "{source}"\n{more}')


@pytest.mark.parametrize(
    ("source", "file", "content", "why"),
    [
        ("table", "t.csv", "gene,a\nG1,1\nG2,0\nG3,3\n", "G2: its vector is all zeros"),
        ("gene_sets", "t.gmt", "S\td\tG1\tG3\nALONE\td\tG2\n", "G2: in none of the gene sets of t.gmt"),
        ("network", "t.tsv", "a\tb\nG1\tG3\nG2\tG2\n", "G2: in no edge of t.tsv"),
        ("screen", "t.csv", "perturbation,gene,value\nG1,X,1\nG3,X,2\n", "G2: not perturbed in t.csv"),
        ("structure", "t.csv", "gene,file\nG1,t.csv\nG3,t.csv\n", "G2: not in t.csv"),
        ("bioemb", "t.csv", "gene,a\nG1,1\nG3,3\n", "G2: not in t.csv"),
    ],
)
def test_a_source_names_the_genes_that_will_have_no_vector_before_any_is_made(
    experiment, problems, tmp_path, source, file, content, why
):
    (tmp_path / file).write_text(content)
    said = problems(experiment(of_source(source, f'lookup = "{tmp_path / file}"')))
    assert [s.partition(":")[0] for s in said] == ["train", "test"]
    assert f"2 of 3 perturbations have no feature vector from `{source}` of {file} ({why}): mend" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["features.pt", "features.pt.json", file, "made.toml", "one.h5ad"]
    )


def test_what_a_source_can_not_tell_beforehand_is_said(experiment, problems, tmp_path):
    said = problems(experiment(of_source("expression", f'lookup = "{tmp_path / "one.h5ad"}"')))
    assert "(G1: not measured in one.h5ad, G2: not measured in one.h5ad" in said[0]
    (tmp_path / "t.csv").write_text("gene,file\n" + "".join(f"G{i},t.csv\n" for i in (1, 2, 3)))
    found = check_experiment(experiment(of_source("structure", f'lookup = "{tmp_path / "t.csv"}"')))
    assert found.uncovered == []
    assert "`structure` tells of genes whose file can't be read only as it makes the vectors." in found.notes


def test_keys_that_the_source_or_the_table_does_not_read_are_refused(experiment, problems):
    said = problems(experiment(of_source("onehot", 'fasta = "human.fasta"\ntransductive = true\nmissing = "drop"')))
    assert said == [
        "[features] fasta: `onehot` doesn't read it, esm2, structure, rag_esm do. Leave it out, or name another source.",
        "[features] transductive: `onehot` doesn't read it, bioemb does. Leave it out, or name another source.",
    ]
    said = problems(experiment(of_source("esm2", 'lookup = "made.toml"').replace('source = "esm2"\n', "")))
    assert "[features] lookup: `esm2` doesn't read it, table, gene_sets, network" in said[0]
    assert said[0].endswith("do. Leave it out, or say which  source  is meant.")
    said = problems(experiment(TABLES + "layer = 3\n"))
    assert said[0].startswith(
        "[features] layer is read of no table: leave it out, or name a source in the table's place"
    )
    by_name = '[run]\nmodel = "esm_state"\noverrides = ["training.esm_lr=1e-4", "training.lr=1e-4"]\n'
    found = check_experiment(experiment(f'{TABLES}layer = 3\nmissing = "drop"\n{by_name}'))
    assert found.uncovered == ["G2"]
    assert "training.esm_lr=1e-4 does nothing: no layer of ESM2 is trained." in found.notes
