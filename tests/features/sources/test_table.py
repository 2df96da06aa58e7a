"""Vectors looked up in a table that exists."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features import create_features
from stateshift.files import sha256


@pytest.fixture
def job(tmp_path):
    (tmp_path / "genes.txt").write_text("B\nA\n")
    FeatureTable(
        ["A", "B", "C"],
        np.arange(6).reshape(3, 2),
        {"source": "esm2", "model": "esm2_t48_15B_UR50D", "missing": {"C": "why"}, "missing_policy": {"C": "zero"}},
    ).save(tmp_path / "T.pt")
    return {"gene_list": tmp_path / "genes.txt", "lookup": tmp_path / "T.pt", "output": tmp_path / "f.pt"}


def test_the_vectors_are_those_of_the_table_and_the_provenance_leads_back_to_it(job):
    table = create_features(**job)
    assert table.genes == ["B", "A"]
    np.testing.assert_array_equal(table.vectors, [[2, 3], [0, 1]])
    told = json.loads((job["output"].parent / "f.pt.json").read_text())
    assert (told["source"], told["lookup"], told["lookup_sha256"]) == ("table", "T.pt", sha256(job["lookup"]))
    assert told["lookup_provenance"]["model"] == "esm2_t48_15B_UR50D"
    assert "filled_in_lookup" not in told


def test_a_vector_filled_in_by_policy_stays_marked_when_it_is_looked_up(job):
    job["gene_list"].write_text("A\nC\n")
    assert create_features(**job).provenance["filled_in_lookup"] == {"C": "zero"}


def test_genes_the_table_lacks_are_listed_with_slips_of_case(job):
    job["gene_list"].write_text("A\nb\nZ\n")
    with pytest.raises(StateshiftError) as caught:
        create_features(**job)
    assert "2 of 3 genes have no vector from T.pt" in str(caught.value)
    assert "b: not in the table (did you mean `B`? case differs)" in str(caught.value)
    table = create_features(**job, missing="mean")
    assert table.genes == ["A", "b", "Z"]
    np.testing.assert_array_equal(table.vectors, [[0, 1]] * 3)


def test_with_aliases_genes_are_found_by_old_symbols_ensembl_ids_and_other_spellings(job, tmp_path):
    hgnc = ["symbol\talias_symbol\tprev_symbol\tensembl_gene_id", "KMT2A\tHRX|ALL-1\tMLL\tENSG00000118058"]
    hgnc += ["KLF1\t\t\tENSG00000105610", "TP53\tp53\t\tENSG00000141510"]
    (tmp_path / "hgnc.txt").write_text("\n".join(hgnc) + "\n")
    rows = {"MLL": [1, 2], "ENSG00000105610.18": [3, 4], "tp53": [5, 6]}
    record = {"source": "esm2", "missing_policy": {"MLL": "mean"}}
    FeatureTable(list(rows), np.array(list(rows.values())), record).save(tmp_path / "T.pt", overwrite=True)
    job["gene_list"].write_text("TP53\nKLF1\nKMT2A\n")
    table = create_features(**job, source="table", aliases=tmp_path / "hgnc.txt")
    assert (table.genes, table.vectors.tolist()) == (["TP53", "KLF1", "KMT2A"], [[5, 6], [3, 4], [1, 2]])
    assert table.provenance["matched_by"] == {"TP53": "tp53", "KLF1": "ENSG00000105610.18", "KMT2A": "MLL"}
    assert table.provenance["filled_in_lookup"] == {"KMT2A": "mean"}
    rows["HRX"] = [1, 3]
    FeatureTable(list(rows), np.array(list(rows.values()))).save(tmp_path / "T.pt", overwrite=True)
    with pytest.raises(StateshiftError, match=r"differ under several names of one gene: KMT2A \(`MLL`, `HRX`\)"):
        create_features(**job | {"output": tmp_path / "g.pt"}, source="table", aliases=tmp_path / "hgnc.txt")


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t")])
def test_text_tables_have_the_gene_in_the_first_column(tmp_path, name, separator):
    rows = [["gene", "x", "y"], ["NA", "1.5", "-2"], ["TP53", "0", "1e-3"]]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows) + "\n")
    table = FeatureTable.load(tmp_path / name)
    assert table.genes == ["NA", "TP53"]
    np.testing.assert_allclose(table.vectors, [[1.5, -2], [0, 1e-3]])


def test_all_problems_of_a_text_table_are_told_at_once(tmp_path):
    (tmp_path / "t.csv").write_text("gene,x,y,z\nA,1,,3\nB,2,high,inf\nA,1,2,3\n")
    with pytest.raises(InputProblems) as caught:
        FeatureTable.load(tmp_path / "t.csv")
    assert len(caught.value.problems) == 3
    assert "column `y` holds no finite number for 2 of 3 genes (A: nothing, B: `high`)" in caught.value.problems[0]
    assert "column `z` holds no finite number for 1 of 3 genes (B: `inf`)" in caught.value.problems[1]
    assert "genes occur twice: A" in caught.value.problems[2]


@pytest.mark.parametrize("text", ["", "gene\nA\n", "gene,x\n"])
def test_a_text_table_without_vectors_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StateshiftError, match=r"t\.csv"):
        FeatureTable.load(tmp_path / "t.csv")


def test_a_table_with_other_separators_is_told_which(tmp_path):
    (tmp_path / "t.csv").write_text("gene;x;y\nA;1,5;2,5\n")
    with pytest.raises(StateshiftError, match=r"t\.csv: semicolons part the columns .* \.csv has commas: write it"):
        FeatureTable.load(tmp_path / "t.csv")


def test_an_absent_table_is_refused(tmp_path):
    for name in ("t.csv", "t.pt"):
        with pytest.raises(StateshiftError, match="no such feature table"):
            FeatureTable.load(tmp_path / name)


def test_a_table_that_names_its_genes_otherwise_is_one_sentence(tmp_path):
    (tmp_path / "t.csv").write_text("gene,x\n" + "".join(f"ENSG{i},{i + 1}\n" for i in range(20)))
    (tmp_path / "g.txt").write_text("".join(f"GENE{i}\n" for i in range(20)))
    with pytest.raises(
        StateshiftError, match=r"t.csv has none of the 20 genes: GENE0, .* it holds ENSG0, .*as ids perhaps"
    ) as told:
        create_features(
            source="table", lookup=tmp_path / "t.csv", gene_list=tmp_path / "g.txt", output=tmp_path / "f.pt"
        )
    assert "\n" not in str(told.value)
