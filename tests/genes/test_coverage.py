"""Which protein stands for a gene, and what is said of a gene without one."""

from __future__ import annotations

import csv
import itertools

import pytest

from stateshift.errors import StateshiftError
from stateshift.genes import GeneNames, proteins_of_genes
from stateshift.genes.headers import symbol_of
from stateshift.proteins.fasta import Protein, read_fasta


def entry(id: str, gene: str | None, sequence: str = "MKV") -> Protein:
    return Protein(id, f"some protein OS=Homo sapiens OX=9606{f' GN={gene}' if gene else ''} PE=1 SV=2", sequence)


@pytest.mark.parametrize(
    ("description", "symbol"),
    [
        ("Alpha OS=Homo sapiens OX=9606 GN=A1BG PE=1 SV=4", "A1BG"),
        ("A1BG_HUMAN OS=Homo sapiens OX=9606 GN=HLA-A", "HLA-A"),
        ("GN=NKX2-5 PE=1", "NKX2-5"),
        ("odd name OS=Mus GN=two words PE=3", "two words"),
        ("no gene OS=Homo sapiens OX=9606 PE=1", None),
        ("pep chromosome:GRCh38:17 gene:ENSG00000141510.19 gene_symbol:TP53 description:p53", "TP53"),
        ("", None),
    ],
)
def test_the_symbol_is_what_follows_GN(description, symbol):
    assert symbol_of(description) == symbol


def test_reviewed_comes_first_then_canonical_then_longest_in_any_order_of_the_file():
    entries = [
        entry("tr|A0A1|X_HUMAN", "TP53", "M" * 900),
        entry("sp|P04637-2|P53_HUMAN", "TP53", "M" * 500),
        entry("sp|P04637|P53_HUMAN", "TP53", "M" * 393),
        entry("sp|Q00001|P53B_HUMAN", "TP53", "M" * 100),
    ]
    for order in itertools.permutations(entries):
        assert proteins_of_genes(["TP53"], order).found["TP53"].id == "sp|P04637|P53_HUMAN"
    unreviewed = [entry("tr|A|X", "G", "M" * 5), entry("tr|B|X", "G", "M" * 9), entry("tr|C-2|X", "G", "M" * 99)]
    assert proteins_of_genes(["G"], unreviewed).found["G"].id == "tr|B|X"


def test_every_gene_asked_for_is_found_or_missing_once_and_in_order():
    coverage = proteins_of_genes(["B", "Z", "A", "B"], [entry("sp|1|A", "A"), entry("sp|2|B", "B")])
    assert list(coverage.found) == ["B", "A"]
    assert list(coverage.missing) == ["Z"]
    assert coverage.total == 3


def test_what_decided_among_several_proteins_and_what_was_passed_over_is_told():
    entries = [
        entry("sp|P1|A", "A"),
        *(entry("tr|T2|B", "B", "MKVLLL"), entry("sp|P2|B", "B")),
        *(entry("sp|P3-2|C", "C", "MKVLLL"), entry("sp|P3|C", "C")),
        *(entry("tr|T5|D", "D", "MKVL"), entry("tr|T4|D", "D", "MK")),
        *(entry("tr|T7|E", "E"), entry("tr|T6|E", "E")),
    ]
    coverage = proteins_of_genes("ABCDE", entries)
    assert {gene: (p.id, coverage.choices[gene].chosen_as) for gene, p in coverage.found.items()} == {
        "A": ("sp|P1|A", "the only one"),
        "B": ("sp|P2|B", "reviewed before unreviewed"),
        "C": ("sp|P3|C", "canonical before isoforms"),
        "D": ("tr|T5|D", "the longest"),
        "E": ("tr|T6|E", "the first by id"),
    }
    assert [coverage.choices[gene].passed_over for gene in "AB"] == [(), ("tr|T2|B",)]


def test_a_spelling_of_one_symbol_is_taken_and_told_and_one_of_several_is_refused():
    coverage = proteins_of_genes(
        ["tp53", "HLA.A", "krtap1.1", "KRTAP11", "abc1"],
        [entry(f"sp|{i}|P", s) for i, s in enumerate(["TP53", "HLA-A", "KRTAP1-1", "ABC1", "Abc1"])],
    )
    assert coverage.by_other_names == {
        "tp53": "spelling of TP53",
        "HLA.A": "spelling of HLA-A",
        "krtap1.1": "spelling of KRTAP1-1",
    }
    assert coverage.missing["abc1"] == "its spelling alone parts it from several symbols (ABC1, Abc1): use one of them"
    assert "KRTAP11" in coverage.missing


def test_a_gene_without_a_protein_is_told_why():
    coverage = proteins_of_genes(
        ["SLC38A22", "XYZ", "ENSG00000141510.3", "ENST00000269305", "ENSP00000269305.4", "Q9Y6K9"],
        [entry("sp|3|S", "SLC38A2")],
        "human.fasta",
    )
    assert not coverage.found
    assert coverage.missing == {
        "SLC38A22": "no protein has this symbol (nearest: `SLC38A2`, another gene unless it was misspelt)",
        "XYZ": "no protein has this symbol",
        "ENSG00000141510.3": "an Ensembl id that human.fasta doesn't name, and no table of names was given (--aliases)",
        "ENST00000269305": "an Ensembl transcript id that human.fasta doesn't name (a FASTA of Ensembl or GENCODE does)",
        "ENSP00000269305.4": "an Ensembl protein id that human.fasta doesn't name (a FASTA of Ensembl or GENCODE does)",
        "Q9Y6K9": "a UniProt accession that human.fasta doesn't hold",
    }


@pytest.mark.parametrize("name", ["P04637", "P04637-2", "P53_HUMAN", "sp|P04637-2|P53_HUMAN"])
def test_a_uniprot_id_finds_its_entry_and_an_isoform_only_itself(name):
    entries = [entry("sp|P04637-2|P53_HUMAN", "TP53", "M" * 50), entry("sp|P04637|P53_HUMAN", "TP53")]
    chosen = proteins_of_genes([name], entries)
    assert chosen.found[name].id == ("sp|P04637-2|P53_HUMAN" if "-2" in name else "sp|P04637|P53_HUMAN")
    assert chosen.choices[name].matched_by == "id in the FASTA"


@pytest.mark.parametrize(
    "record",
    [
        Protein(
            "ENSP00000269305.4", "pep gene:ENSG00000141510.19 transcript:ENST00000269305.9 gene_symbol:TP53", "MKV"
        ),
        Protein("ENSP00000269305.4|ENST00000269305.9|ENSG00000141510.19|-|-|TP53-201|TP53|393", "", "MKV"),
    ],
    ids=["Ensembl", "GENCODE"],
)
@pytest.mark.parametrize(
    "name", ["TP53", "ENSG00000141510", "ENSG00000141510.18", "ENST00000269305.1", "ENSP00000269305"]
)
def test_ensembl_ids_of_any_version_find_the_records_of_an_ensembl_fasta(record, name):
    assert list(proteins_of_genes([name], [record]).found) == [name]


def test_a_fasta_whose_ids_are_the_genes_serves_without_headers():
    assert proteins_of_genes(["TP53"], [Protein("TP53", "", "MKV")]).found["TP53"].sequence == "MKV"


@pytest.fixture
def hgnc(tmp_path):
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_text(
        "hgnc_id\tsymbol\tlocus_group\talias_symbol\tprev_symbol\tensembl_gene_id\tuniprot_ids\n"
        '1\tVIRMA\tprotein-coding gene\t"fSAP121|MSTP054"\tKIAA1429\tENSG00000164944\tQ69YN4\n'
        "2\tCRYBG1\tprotein-coding gene\t\tAIM1\tENSG00000112297\tQ9Y4K1\n"
        "3\tAURKB\tprotein-coding gene\tAIM1|STK12\t\tENSG00000178999\tQ96GD4\n"
        "4\tMALAT1\tnon-coding RNA\tNEAT2\t\tENSG00000251562\t\n"
        "5\tSLC38A2\tprotein-coding gene\t\t\tENSG00000134294\tQ96QD8\n"
    )
    return GeneNames.from_hgnc(path)


def test_aliases_previous_symbols_and_ensembl_ids_lead_to_the_approved_symbols_protein(hgnc):
    names = ["KIAA1429", "MSTP054", "FSAP121", "ENSG00000164944.12", "virma"]
    coverage = proteins_of_genes(names, [entry("sp|Q69YN4|VIR", "VIRMA")], names=hgnc)
    assert coverage.by_other_names == {
        "KIAA1429": "previous symbol of VIRMA (HGNC)",
        "MSTP054": "alias of VIRMA (HGNC)",
        "FSAP121": "alias of VIRMA (HGNC)",
        "ENSG00000164944.12": "Ensembl id of VIRMA (HGNC)",
        "virma": "spelling of VIRMA",
    }


def test_a_new_symbol_finds_a_fasta_that_holds_the_old_one_and_accessions_serve_where_no_symbol_does(hgnc):
    fasta = [entry("sp|A1|VIR", "KIAA1429"), entry("sp|Q96QD8|S38A2_HUMAN", None)]
    coverage = proteins_of_genes(["VIRMA", "SLC38A2"], fasta, names=hgnc)
    assert {gene: p.id for gene, p in coverage.found.items()} == {
        "VIRMA": "sp|A1|VIR",
        "SLC38A2": "sp|Q96QD8|S38A2_HUMAN",
    }
    assert coverage.by_other_names == {
        "VIRMA": "KIAA1429 in the FASTA, its previous symbol (HGNC)",
        "SLC38A2": "accession (HGNC)",
    }


def test_every_step_that_led_to_a_protein_is_told(hgnc):
    fasta = [entry("sp|A1|VIR", "KIAA1429"), entry("sp|Q96GD4|AURKB_HUMAN", None)]
    coverage = proteins_of_genes(["MSTP054", "virma", "STK12"], fasta, names=hgnc)
    assert coverage.by_other_names == {
        "MSTP054": "alias of VIRMA, KIAA1429 in the FASTA, its previous symbol (HGNC)",
        "virma": "spelling of VIRMA, KIAA1429 in the FASTA, its previous symbol (HGNC)",
        "STK12": "alias of AURKB, accession (HGNC)",
    }


def test_one_id_of_two_sequences_is_refused_and_a_record_that_is_there_twice_counts_once():
    with pytest.raises(StateshiftError, match=r"x.fasta: sp\|1\|A name several sequences each"):
        proteins_of_genes(["A"], [entry("sp|1|A", "A"), entry("sp|1|A", "A", "MKL")], "x.fasta")
    coverage = proteins_of_genes(["A"], [entry("sp|1|A", "A"), entry("sp|1|A", "A")])
    assert coverage.choices["A"].chosen_as == "the only one"
    assert coverage.choices["A"].passed_over == ()


def test_another_species_symbols_are_read_of_gencode_headers():
    trp53 = "ENSMUSP00000104298.4|ENSMUST00000108658.10|ENSMUSG00000059552.15|-|-|Trp53-201|Trp53|390"
    assert proteins_of_genes(["Trp53"], [Protein(trp53, "", "MKV")]).choices["Trp53"].matched_by == "symbol"


def test_an_alias_of_several_genes_is_refused_and_both_are_named(hgnc):
    fasta = [entry("sp|1|C", "CRYBG1"), entry("sp|2|A", "AURKB")]
    assert proteins_of_genes(["AIM1"], fasta, names=hgnc).missing["AIM1"] == (
        "one name of several genes in HGNC's table (alias of AURKB, previous symbol of CRYBG1): use the symbol of the "
        "one meant"
    )
    assert proteins_of_genes(["AIM1"], [*fasta, entry("sp|3|X", "AIM1")], names=hgnc).found["AIM1"].id == "sp|3|X"


def test_a_gene_that_makes_no_protein_is_told_apart_from_one_the_fasta_lacks(hgnc):
    coverage = proteins_of_genes(["NEAT2", "MALAT1", "KIAA1429", "VIRMA"], [entry("sp|1|C", "CRYBG1")], names=hgnc)
    assert coverage.missing == {
        "NEAT2": "alias of MALAT1, and MALAT1 makes no protein (non-coding RNA, HGNC)",
        "MALAT1": "MALAT1 makes no protein (non-coding RNA, HGNC)",
        "KIAA1429": "previous symbol of VIRMA, and no protein has this symbol or its accessions",
        "VIRMA": "no protein has this symbol",
    }


def test_the_report_holds_every_gene_once_with_its_protein_or_the_reason(tmp_path):
    fasta = [entry("sp|1|A", "A", "MKVL"), entry("tr|2|A", "A")]
    proteins_of_genes(["a", "Z"], fasta).write_csv(tmp_path / "coverage.csv")
    with (tmp_path / "coverage.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows == [
        {
            "gene": "a",
            "protein": "sp|1|A",
            "length": "4",
            "matched_by": "spelling of A",
            "chosen_as": "reviewed before unreviewed",
            "passed_over": "tr|2|A",
            "missing_because": "",
        },
        dict.fromkeys(rows[0], "") | {"gene": "Z", "missing_because": "no protein has this symbol"},
    ]


def test_a_file_without_symbols_is_refused_with_an_example():
    with pytest.raises(StateshiftError, match=r"names no genes.*GN=A1BG"):
        proteins_of_genes(["A"], [entry("sp|1|A", None)], "scop.fasta")


def test_real_symbols_find_their_uniprot_entries(shared_data):
    proteins = read_fasta(shared_data / "proteins" / "human_subset.fasta")
    assert len(proteins) == 6512
    genes = ["KLF1", "KMT2A", "HK2", "SLC38A2", "MIDN", "FOXO4", "IER5L", "MAP3K21", "TMSB4X", "NIT1"]
    coverage = proteins_of_genes(genes, proteins)
    assert {gene: p.id.split("|")[1] for gene, p in coverage.found.items()} == {
        "KLF1": "Q13351",
        "KMT2A": "Q03164",
        "HK2": "P52789",
        "SLC38A2": "Q96QD8",
    }
    assert list(coverage.missing) == ["MIDN", "FOXO4", "IER5L", "MAP3K21", "TMSB4X", "NIT1"]
