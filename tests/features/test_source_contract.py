"""What every source of features promises: one contract, held against each of them."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features
from stateshift.features.registry import BUILT_IN, FeatureRequest, feature_source, readers
from stateshift.rag_esm.model.checkpoint import new_rag_esm, save_rag_esm

READ_A_FILE = readers("lookup")
GENES = ["GENE3", "GENE1", "GENE12", "GENE7"]
FROM_THE_REQUEST = ("symbol", "onehot")
"""Sources whose vectors depend on which genes are asked for."""
KNOW_EVERY_GENE = ("symbol", "onehot", "random")


@pytest.fixture(scope="session")
def bioemb_run(tmp_path_factory):
    """A run whose vectors the source `bioemb` gives."""
    folder = tmp_path_factory.mktemp("bioemb")
    vectors = np.random.default_rng(1).standard_normal((20, 6))
    FeatureTable([f"GENE{i}" for i in range(20)], vectors, {"source": "made"}).save(folder / "t.pt")
    quick = [
        f"data.table={folder / 't.pt'}",
        "data.transductive=true",
        "training.epochs=1",
        "model.bottleneck=3",
        "codes.k=4",
    ]
    return train_bioemb("genes", [*quick, f"output_dir={folder}", "name=run"]).folder


@pytest.fixture
def inputs(tmp_path, cell_maker, bioemb_run):
    """One small file for each source that reads one, and a FASTA: 20 genes GENE0 … GENE19."""
    rng = np.random.default_rng(0)
    genes = [f"GENE{i}" for i in range(20)]
    FeatureTable(genes, rng.standard_normal((20, 6)), {"source": "made"}).save(tmp_path / "t.pt")
    sets = [f"SET{j}\tmade\t" + "\t".join(rng.choice(genes, 5, replace=False)) for j in range(15)]
    (tmp_path / "sets.gmt").write_text("\n".join(sets) + "\nALL\tmade\t" + "\t".join(genes) + "\n")
    edges = [f"GENE{i}\tGENE{(i + step) % 20}\t{100 * step}" for i in range(20) for step in (1, 3)]
    (tmp_path / "edges.tsv").write_text("\n".join(["gene_a\tgene_b\tscore", *edges]) + "\n")
    cell_maker(tmp_path / "cells.h5ad", n_cells=30)
    rows = [f"{p},{g},{rng.standard_normal():.4f}" for p in genes for g in ("A", "B", "C", "D")]
    (tmp_path / "effects.csv").write_text("\n".join(["perturbation,gene,value", *rows]) + "\n")
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    proteins = [f">sp|P{i:05d}|X_HUMAN GN={g}\n{''.join(rng.choice(letters, 40))}" for i, g in enumerate(genes)]
    (tmp_path / "p.fasta").write_text("\n".join(proteins) + "\n")
    for i, gene in enumerate(genes):
        (tmp_path / f"{gene}.pdb").write_text(backbone(rng.choice(["ALA", "LEU", "GLY", "LYS", "GLU", "SER"], 12 + i)))
    (tmp_path / "models.csv").write_text("gene,file\n" + "".join(f"{gene},{gene}.pdb\n" for gene in genes))
    homologs = [record.replace("sp|", "homolog") + "A" for record in proteins]
    (tmp_path / "h.fasta").write_text("\n".join(homologs) + "\n")
    save_rag_esm(new_rag_esm(), tmp_path / "rag")
    files = ("t.pt", "sets.gmt", "edges.tsv", "cells.h5ad", "effects.csv", "models.csv", bioemb_run, "h.fasta")
    options = {source: {"lookup": tmp_path / name} for source, name in zip(READ_A_FILE, files, strict=True)}
    options["rag_esm"] |= {"fasta": tmp_path / "p.fasta", "checkpoint": str(tmp_path / "rag")}
    return options | {"esm2": {"fasta": tmp_path / "p.fasta"}}


def backbone(residues) -> str:
    """N, CA and C of each residue along a line, as a PDB file."""
    line = "ATOM  {:>5}  {:<3} {} A{:>4}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           {}\n"
    atoms = [(name, residue, i) for i, residue in enumerate(residues, start=1) for name in ("N", "CA", "C")]
    return "".join(line.format(k, n, r, i, 1.4 * k, i % 2, 0, n[0]) for k, (n, r, i) in enumerate(atoms, start=1))


@pytest.fixture
def made(inputs, tmp_path):
    """Make a table of some genes by a source."""

    def make(source: str, genes: list[str], name: str = "f.pt", **options: object) -> FeatureTable:
        (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n")
        given = {**inputs.get(source, {}), **options}
        return create_features(source=source, gene_list=tmp_path / "genes.txt", output=tmp_path / name, **given)

    return make


@pytest.mark.parametrize("source", BUILT_IN)
def test_a_source_gives_one_finite_float_vector_a_gene_in_the_order_asked_for(source, made, tmp_path):
    table = made(source, GENES)
    content = torch.load(tmp_path / "f.pt", weights_only=True)
    assert list(content) == table.genes == GENES
    assert {(v.dtype, tuple(v.shape)) for v in content.values()} == {(torch.float32, (table.width,))}
    assert np.isfinite(table.vectors).all()
    assert (np.linalg.norm(table.vectors, axis=1) > 0).all()
    assert len(np.unique(table.vectors.round(5), axis=0)) > 1


@pytest.mark.parametrize("source", BUILT_IN)
def test_a_source_tells_where_its_vectors_come_from(source, made, tmp_path):
    made(source, GENES)
    told = json.loads((tmp_path / "f.pt.json").read_text())
    assert (told["source"], told["missing"], told["genes"]) == (source, {}, len(GENES))
    assert {"date", "stateshift", "width"} <= set(told)
    if source in READ_A_FILE:
        assert len(told["lookup_sha256"]) == 64


@pytest.mark.parametrize("source", BUILT_IN)
def test_a_source_says_of_each_demo_model_once_what_it_is(source, made, caplog):
    with caplog.at_level(logging.INFO):
        table = made(source, GENES)
    demo_models = {"esm2": 1, "rag_esm": 1, "structure": 2}.get(source, 0)
    assert caplog.text.count("good for trying out, not for research") == demo_models
    assert table.provenance.get("demo", False) == bool(demo_models)


@pytest.mark.parametrize("source", BUILT_IN)
def test_a_source_gives_the_same_vectors_again(source, made):
    np.testing.assert_array_equal(made(source, GENES).vectors, made(source, GENES, "again.pt").vectors)


@pytest.mark.parametrize("source", [s for s in BUILT_IN if s not in FROM_THE_REQUEST])
def test_a_genes_vector_does_not_depend_on_the_others_asked_for(source, made):
    whole, alone = made(source, GENES), made(source, GENES[2:3], "alone.pt")
    np.testing.assert_allclose(alone.vectors[0], whole.vectors[2], atol=1e-5)


@pytest.mark.parametrize("source", [s for s in BUILT_IN if s not in KNOW_EVERY_GENE])
def test_a_gene_that_a_source_lacks_is_refused_by_name_or_follows_the_policy(source, made, inputs, tmp_path):
    request = FeatureRequest([*GENES, "ELSE9"], tmp_path / "not_made.pt", **inputs[source])
    assert list(feature_source(source).lacking(request)) == ["ELSE9"]
    with pytest.raises(StateshiftError, match=r"1 of 5 genes have no vector[^\n]*\n  - ELSE9: \w+"):
        made(source, [*GENES, "ELSE9"])
    table = made(source, [*GENES, "ELSE9"], missing="drop")
    assert table.genes == GENES
    assert list(table.provenance["missing"]) == ["ELSE9"]


@pytest.mark.parametrize("source", READ_A_FILE)
def test_a_source_that_reads_a_file_asks_for_it_and_says_when_it_is_not_there(source, made, tmp_path):
    with pytest.raises(StateshiftError, match="name the file with --lookup"):
        made(source, GENES, lookup=None)
    with pytest.raises(StateshiftError, match=r"no\.where: there is no such file"):
        made(source, GENES, lookup=tmp_path / "no.where")
