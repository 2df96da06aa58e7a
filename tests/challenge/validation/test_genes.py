"""The gene list and the prediction's genes: every fault at once, and what is likely behind it."""

from __future__ import annotations

import pytest

from stateshift.challenge import validate

IDS = [f"ENSG{i:011d}" for i in range(30)]


@pytest.fixture
def check(make, gene_file):
    """Checks of genes of a prediction on some genes against a list of others, name → (status, detail)."""

    def run(predicted, listed, expected=30):
        gene_file.write_text("\n".join(listed))
        outcome = validate(make(predicted), "2025", gene_file, expected_gene_dim=expected)
        return {c.name: (c.status, c.detail) for c in outcome.checks if "gene" in c.name}

    return run


def test_header_and_repeats_of_a_list_are_said_together(check, genes):
    found = check(genes, ["gene_name", *genes[:-2], "G07", "G05"])
    assert found["gene list"] == (
        "fail",
        "gene_names.csv begins with `gene_name`, which looks like a header: the list has none, remove it; "
        "gene_names.csv names G05, G07 more than once",
    )
    assert check(genes, genes)["gene list"] == ("pass", "gene_names.csv, no header, every gene once")


def test_the_lists_length_is_held_to_the_season_unless_that_is_waived(check, genes):
    assert check(genes, genes, 31)["number of genes"][0] == "fail"
    assert check(genes, genes, -1)["number of genes"] == ("pass", "30")
    assert check(genes, genes, 0)["number of genes"][0] == "fail"


def test_a_single_missing_gene_is_suggested_among_the_others(check, genes):
    said = "1 of the list's genes are not predicted: "
    assert check(genes, [*genes[:-1], "MYC"])["genes"] == (
        "fail", f"{said}MYC (there are: G29); 1 predicted genes are not in the list: G29",
    )  # fmt: skip
    found = check([*genes[:-1], "G29A"], genes)
    assert "G29 (did you mean `G29A`?)" in found["genes"][1]
    assert "other genes" not in found
    assert check(genes, [*genes, "MYC"], 31)["genes"] == ("fail", f"{said}MYC")


@pytest.mark.parametrize("version", ["", ".12"])
def test_ensembl_ids_on_either_side_are_told_with_or_without_version(check, genes, version):
    ids = [f"{id}{version}" for id in IDS]
    assert check(ids, genes)["genes"][1].endswith("the prediction names genes by Ensembl ids and the list by symbols")
    assert check(genes, ids)["genes"][1].endswith("the list names genes by Ensembl ids and the prediction by symbols")
    assert "Ensembl" not in check(ids, [*ids[:-1], "ENSG99999999999"])["genes"][1]


def test_a_few_ids_or_a_symbol_that_begins_like_one_are_no_ids(check, genes):
    assert "Ensembl" not in check(genes, [*genes[:-1], "ENSA"])["genes"][1]
    half = [*genes[:-2], IDS[0], "X1"]
    assert "Ensembl" not in check(half, genes)["genes"][1]


def test_genes_beyond_the_list_leave_its_order_as_it_is(check, genes):
    assert check(["A0", *genes, "Z9"], genes) == {
        "gene list": ("pass", "gene_names.csv, no header, every gene once"),
        "number of genes": ("pass", "30"),
        "genes": ("pass", "all 30 are predicted"),
        "other genes": ("warn", "2 are not in the list, and an export leaves them out: A0, Z9"),
    }
    swapped = check([genes[1], genes[0], *genes[2:]], genes)
    assert swapped["genes"][1] == "all 30 are predicted; they are brought to the list's order"
    assert swapped["other genes"] == ("pass", "none")
