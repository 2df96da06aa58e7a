"""Which names are one gene's, by HGNC's table and by spelling."""

from __future__ import annotations

import pytest

from stateshift.errors import StateshiftError
from stateshift.genes import GeneNames

COLUMNS = "symbol\talias_symbol\tprev_symbol\tensembl_gene_id\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "hgnc.txt"
    path.write_text(
        f"{COLUMNS}VIRMA\tfSAP121\tKIAA1429\tENSG00000164944\nCRYBG1\t\tAIM1\t\nAURKB\tAIM1\t\t\nAIM2\tVIRMA\t\t\n"
    )
    return path


def test_an_approved_symbol_stands_for_itself_even_where_it_is_anothers_alias(table):
    assert GeneNames.from_hgnc(table).meaning("VIRMA") == {"VIRMA": "symbol"}
    assert GeneNames.from_hgnc(table).meaning("virma") == {"VIRMA": "symbol"}


def test_a_name_of_several_genes_means_all_of_them_and_stays_its_own_key(table):
    names = GeneNames.from_hgnc(table)
    assert names.meaning("AIM1") == {"CRYBG1": "previous symbol", "AURKB": "alias"}
    assert names.key("AIM1") == "aim1"


def test_names_of_one_gene_share_a_key_in_any_spelling(table):
    names = GeneNames.from_hgnc(table)
    one = {names.key(n) for n in ("VIRMA", "virma", "KIAA1429", "FSAP121", "ENSG00000164944.12")}
    assert one == {"virma"}


def test_without_a_table_spelling_and_versions_are_all_that_is_known():
    names = GeneNames()
    assert not names.has_table
    assert names.key("HLA.A") == names.key("HLA-A")
    assert names.key("KIAA1429") != names.key("VIRMA")


def test_a_table_that_lacks_columns_names_them(tmp_path):
    (tmp_path / "t.txt").write_text("symbol\talias_symbol\nA\tB\n")
    with pytest.raises(StateshiftError, match=r"no table of HGNC: it has no column prev_symbol, ensembl_gene_id"):
        GeneNames.from_hgnc(tmp_path / "t.txt")


def test_an_absent_or_binary_table_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(StateshiftError, match=r"absent.txt can't be read as a table of HGNC: No such file"):
        GeneNames.from_hgnc(tmp_path / "absent.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StateshiftError, match="can't be read as a table of HGNC"):
        GeneNames.from_hgnc(tmp_path / "b.txt")
