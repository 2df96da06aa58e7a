"""Which protein stands for a gene, and what is said of a gene without one."""

from __future__ import annotations

import itertools

import pytest

from stateshift.errors import StateshiftError
from stateshift.genes import proteins_of_genes, symbol_of
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


def test_slips_of_case_and_punctuation_are_reported_and_not_taken():
    coverage = proteins_of_genes(
        ["tp53", "HLA.A", "SLC38A22", "XYZ", "ENSG00000141510"],
        [entry("sp|1|P", "TP53"), entry("sp|2|H", "HLA-A"), entry("sp|3|S", "SLC38A2")],
    )
    assert not coverage.found
    assert coverage.missing == {
        "tp53": "no protein has this symbol (did you mean `TP53`? case differs)",
        "HLA.A": "no protein has this symbol (did you mean `HLA-A`? punctuation differs)",
        "SLC38A22": "no protein has this symbol (nearest: `SLC38A2`, another gene unless it was misspelt)",
        "XYZ": "no protein has this symbol",
        "ENSG00000141510": "an Ensembl id: gene symbols are needed",
    }


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
