"""Structure features: genes to models by accession or by a table, those without one told why."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.features.registry import FeatureRequest
from stateshift.features.sources.structure import structure_features

pytest.importorskip("gemmi", reason="structures need the extra `structure`")

FASTA = """>sp|P11111|AAA_HUMAN One OS=Homo sapiens OX=9606 GN=AAA PE=1 SV=1
MKV
>sp|P22222|BBB_HUMAN Two OS=Homo sapiens OX=9606 GN=BBB PE=1 SV=1
LAG
>sp|P33333|CCC_HUMAN Three OS=Homo sapiens OX=9606 GN=CCC PE=1 SV=1
STR
"""


@pytest.fixture
def aggregator(tmp_path):
    """Random weights for rows of the demo model, and its file."""
    import torch

    from stateshift.proteins import load_esm2
    from stateshift.structure.aggregator import Aggregator, AggregatorShape, TrainedAggregator, save_aggregator
    from stateshift.structure.residues import Esm2Residues

    torch.manual_seed(0)
    model = Aggregator(AggregatorShape.for_width(128, layers=1, blocks=1)).eval()
    return save_aggregator(TrainedAggregator(model, Esm2Residues(load_esm2()).identity), tmp_path / "small.pt")


@pytest.fixture
def globins(shared_data):
    return shared_data / "structure" / "globins"


@pytest.fixture
def models(tmp_path, globins):
    """Two models named by accession, one of them gzipped; CCC has none."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "AF-P11111-F1-model_v4.pdb").write_bytes((globins / "d1tu9a_.pdb").read_bytes())
    (folder / "P22222.pdb.gz").write_bytes(gzip.compress((globins / "d1hlba_.pdb").read_bytes()))
    (tmp_path / "human.fasta").write_text(FASTA)
    return folder


def request(tmp_path, aggregator, genes, lookup, **more):
    return FeatureRequest(genes, tmp_path / "f.pt", lookup=lookup, checkpoint=str(aggregator), **more)


def by_hand(aggregator, path):
    from stateshift.structure import StructureEmbedding

    model = StructureEmbedding(aggregator)
    return model.aggregate(model.residue_embedding(path)).numpy()


def test_genes_find_their_models_by_accession(tmp_path, aggregator, models, globins):
    asked = request(tmp_path, aggregator, ["BBB", "AAA", "CCC"], models, fasta=tmp_path / "human.fasta", missing="drop")
    table = structure_features(asked)
    np.testing.assert_allclose(
        table.matrix(["AAA"])[0], by_hand(aggregator, globins / "d1tu9a_.pdb"), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        table.matrix(["BBB"])[0], by_hand(aggregator, globins / "d1hlba_.pdb"), rtol=1e-4, atol=1e-4
    )
    assert table.provenance["missing"] == {"CCC": "models has no model of P33333"}
    assert table.provenance["structures"]["AAA"] == "AF-P11111-F1-model_v4.pdb"
    assert not (tmp_path / "f.pt.structures").exists()


def test_genes_without_a_model_are_refused_before_anything_is_embedded(tmp_path, aggregator, models):
    asked = request(tmp_path, aggregator, ["AAA", "CCC", "ZZZ"], models, fasta=tmp_path / "human.fasta")
    with pytest.raises(StateshiftError, match=r"(?s)2 of 3 genes.*ZZZ: no protein.*CCC: models has no model of P33333"):
        structure_features(asked)
    assert not (tmp_path / "f.pt.structures").exists()


def test_a_table_names_files_and_chains(tmp_path, aggregator, globins):
    (tmp_path / "tim.pdb").write_bytes(gzip.decompress((globins / "1tim.pdb.gz").read_bytes()))
    table = tmp_path / "t.csv"
    table.write_text("gene,file,chain\nTPI1,tim.pdb,B\nOTHER,tim.pdb,\nNO,tim.pdb,Z\n")
    made = structure_features(request(tmp_path, aggregator, ["TPI1", "OTHER", "NO", "ABSENT"], table, missing="zero"))
    from stateshift.structure import StructureEmbedding

    model = StructureEmbedding(aggregator)
    chains = [model.aggregate(model.residue_embedding(tmp_path / "tim.pdb", chain_id=c)).numpy() for c in "AB"]
    np.testing.assert_allclose(made.matrix(["OTHER", "TPI1"]), chains, rtol=1e-4, atol=1e-4)
    assert "there are A, B" in made.provenance["missing"]["NO"]
    assert made.provenance["missing"]["ABSENT"] == "not in t.csv"


def test_all_that_is_wrong_with_a_table_is_told(tmp_path, aggregator):
    table = tmp_path / "t.csv"
    table.write_text("gene,file\nA,none.pdb\nA,x.pdb\n,y.pdb\n")
    with pytest.raises(InputProblems) as told:
        structure_features(request(tmp_path, aggregator, ["A"], table))
    assert len(told.value.problems) == 3
    table.write_text("symbol,path\nA,x\n")
    with pytest.raises(InputProblems, match="no column `gene`"):
        structure_features(request(tmp_path, aggregator, ["A"], table))
