"""Each rule of a season, broken one at a time and all at once."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.challenge import read_season, validate, validation_table
from stateshift.challenge.seasons import competition_folder
from stateshift.errors import StateshiftError


@pytest.fixture
def check(gene_file):
    """Validate against the thirty genes; returns the failures, check name → detail."""

    def run(predicted, **options):
        outcome = validate(predicted, "2025", gene_file, **{"expected_gene_dim": 30, **options})
        return {c.name: c.detail for c in outcome.checks if c.status == "fail"}

    return run


def test_a_good_prediction_passes_every_check(make, genes, gene_file):
    outcome = validate(make(genes), "2025", gene_file, expected_gene_dim=30)
    assert outcome.passed
    assert outcome.problems == []
    details = {c.name: c.detail for c in outcome.checks}
    assert details["control"] == "4 cells of `ctrl` become `non-targeting`"
    assert details["predictions"] == "3 perturbations"
    assert details["genes"] == "all 30 are predicted; they are brought to the list's order"
    assert {c.status for c in outcome.checks} == {"pass", "open"}
    assert [c.name for c in outcome.checks if c.status == "open"] == ["perturbations", "total of a cell"]


def test_genes_in_the_lists_order_and_control_cells_alike_need_no_word(make, genes, gene_file):
    predicted = make([*genes[::-1], "MORE"])
    X = predicted.X.toarray()
    X[1] = X[0]  # of the control
    predicted.X = X
    outcome = validate(predicted, "2025", gene_file, expected_gene_dim=30)
    assert {c.name: c.detail for c in outcome.checks}["genes"] == "all 30 are predicted"
    assert outcome.warnings == ["other genes: 1 are not in the list, and an export leaves them out: MORE."]


def test_cells_on_another_total_than_the_seasons_control_cells_are_a_warning(make, genes, gene_file, tmp_path):
    real, counts = make(genes), make(genes, scale="counts")
    real.X.data = np.log1p(5.4 * np.expm1(real.X.data))
    real.uns["stateshift"]["scale"] = "log1p"
    real.write_h5ad(tmp_path / "real.h5ad")
    counts.write_h5ad(tmp_path / "counts.h5ad")

    def of_total(predicted, controls):
        outcome = validate(predicted, "2025", gene_file, expected_gene_dim=30, controls=tmp_path / controls)
        assert outcome.passed
        return next(((c.status, c.detail) for c in outcome.checks if c.name == "total of a cell"), None)

    status, detail = of_total(make(genes), "real.h5ad")
    assert status == "warn"
    assert detail.startswith("cells are log1p of 10,000 counts and the season's control cells of 54,000")
    assert of_total(real, "real.h5ad")[0] == "pass"
    total = np.median(counts[counts.obs["is_control"].to_numpy()].X.toarray().sum(1))
    assert f"control cells of {total:,.0f}: " in of_total(make(genes), "counts.h5ad")[1]
    assert of_total(counts, "counts.h5ad") is None


def test_a_packed_submission_is_not_taken_for_a_damaged_file(gene_file, tmp_path):
    (tmp_path / "s.vcc").write_bytes(b"tar")
    with pytest.raises(StateshiftError, match=r"s\.vcc is packed, .*: name the h5ad"):
        validate(tmp_path / "s.vcc", "2025", gene_file)


def test_validation_leaves_the_prediction_as_it_was(make, genes, check):
    predicted = make(genes)
    predicted.X.data[:3] = 0  # stored zeros
    before = predicted.X.copy()
    check(predicted)
    assert predicted.X.nnz == before.nnz
    assert np.array_equal(predicted.X.toarray(), before.toarray())


def test_the_real_season_wants_18080_genes(make, genes, check):
    failed = check(make(genes), expected_gene_dim=None)
    assert list(failed) == ["number of genes"]
    assert "holds 30 genes and 18,080 are expected" in failed["number of genes"]
    assert check(make(genes), expected_gene_dim=-1) == {}


def test_missing_and_misspelt_genes_are_named(make, genes, check):
    failed = check(make([*genes[:-2], "G28X", "XYZ"]))
    assert failed["genes"] == (
        "2 of the list's genes are not predicted: G29, G28; 2 predicted genes are not in the list: G28X, XYZ"
    )


def test_more_genes_than_the_list_are_left_out_and_said(make, genes, gene_file):
    outcome = validate(make([*genes, "MORE"]), "2025", gene_file, expected_gene_dim=30)
    assert outcome.passed
    assert outcome.warnings == ["other genes: 1 are not in the list, and an export leaves them out: MORE."]


def test_a_header_in_the_gene_list_is_called_one(make, genes, gene_file, check):
    gene_file.write_text("gene_name\n" + gene_file.read_text())
    failed = check(make(genes))
    assert list(failed) == ["gene list"]
    assert "begins with `gene_name`, which looks like a header" in failed["gene list"]


def test_a_gene_listed_twice_is_named(make, genes, gene_file, check):
    gene_file.write_text("\n".join([*genes[:-1], "G07"]))
    assert "names G07 more than once" in check(make(genes))["gene list"]


def test_controls_are_wanted(make, genes, check):
    predicted = make(genes)
    assert "no control cells" in check(predicted[4:].copy())["control"]


def test_a_prediction_without_a_perturbation_column_still_has_its_genes_checked(make, genes, check):
    predicted = make(genes[:-1])
    predicted.obs = predicted.obs.rename(columns={"target_gene": "guide"})
    failed = check(predicted)
    assert set(failed) == {"perturbation column", "genes"}
    assert "it has guide, context" in failed["perturbation column"]


def test_more_cells_than_the_season_allows_are_refused(make, genes, gene_file, tmp_path):
    rules = (competition_folder() / "2025" / "rules.toml").read_text()
    path = tmp_path / "rules.toml"
    path.write_text(rules.replace("200_000", "15"))
    assert read_season(path).cells.most == 15
    outcome = validate(make(genes), path, gene_file, expected_gene_dim=30)
    assert outcome.problems == ["number of cells: 16 cells; the season allows 1 to 15."]
    path.write_text(rules.replace("100_000", "15"))
    outcome = validate(make(genes), path, gene_file, expected_gene_dim=30)
    assert outcome.passed
    assert outcome.warnings == [
        "advised cells: 16 cells are more than the 15 of the season's rules, if not of its tool."
    ]


@pytest.mark.parametrize(("value", "name"), [(np.nan, "finite"), (np.inf, "finite"), (-1.0, "not negative")])
def test_values_that_are_no_expression_are_counted(make, genes, check, value, name):
    predicted = make(genes)
    predicted.X.data[[5, 9]] = value
    failed = check(predicted)
    assert list(failed) == [name]
    assert failed[name].startswith("2 values are")


def test_values_off_the_declared_scale_are_refused(make, genes, check):
    predicted = make(genes)
    predicted.X.data[0] = 15.0
    assert "reaches 15" in check(predicted)["scale"]
    counts = make(genes, scale="counts")
    assert check(counts) == {}
    counts.uns["stateshift"]["scale"] = "log1p"
    counts.X.data = np.minimum(counts.X.data, 12)
    assert "holds whole numbers alone: counts?" in check(counts)["scale"]
    predicted = make(genes)
    predicted.uns["stateshift"]["scale"] = "counts"
    assert "it holds fractions" in check(predicted)["scale"]
    del predicted.uns["stateshift"]["scale"]
    assert check(predicted) == {}, "fractions that declare nothing are taken for what the season wants"


def test_the_list_of_perturbations_is_compared_both_ways(make, genes, check, gene_file, tmp_path):
    counts = tmp_path / "pert_counts.csv"
    counts.write_text("target_gene,n_cells,median_umi_per_cell\nG01,4,100\nG02,9,100\nG20,4,100\n")
    failed = check(make(genes), pert_counts=counts)
    assert failed == {
        "perturbations": "1 of the list are not predicted: G20; 1 predicted are not in the list: G03 (did you mean `G20`?)"
    }
    counts.write_text("target_gene,n_cells\nG01,4\nG02,9\nG03,4\n")
    outcome = validate(make(genes), "2025", gene_file, expected_gene_dim=30, pert_counts=counts)
    said = "all 3 of pert_counts.csv; 1 have another number of cells than the list, which the season allows"
    assert next(c.detail for c in outcome.checks if c.name == "perturbations") == said
    counts.write_text("gene,n_cells\nG01,4\n")
    with pytest.raises(StateshiftError, match="no column `target_gene`"):
        check(make(genes), pert_counts=counts)


def test_a_perturbation_that_copies_its_controls_is_refused_and_one_that_differs_in_a_cell_is_not(make, genes, check):
    predicted = make(genes)
    X = predicted.X.toarray()
    X[4:8] = X[[3, 0, 0, 1]]  # all cells of G01
    X[8:11] = X[0:3]  # three of four of G02
    predicted.X = X
    failed = check(predicted)
    assert list(failed) == ["differ from controls"]
    assert failed["differ from controls"].endswith("predict nothing: G01")


def test_cells_of_nothing_but_zeros_are_told_and_a_perturbation_of_them_is_refused(make, genes, gene_file):
    predicted = make(genes)
    X = predicted.X.toarray()
    X[9] = 0
    predicted.X = X
    outcome = validate(predicted, "2025", gene_file, expected_gene_dim=30)
    assert outcome.passed
    assert outcome.warnings == ["no empty cells: 1 cells hold nothing but zeros (G02)."]
    X[8:12] = 0
    predicted.X = X
    outcome = validate(predicted, "2025", gene_file, expected_gene_dim=30)
    assert outcome.problems == ["no empty perturbation: 1 hold nothing but zeros: G02."]


def test_several_contexts_need_one_to_be_chosen(make, genes, check):
    predicted = make(genes)
    predicted.obs["context"] = ["H1", "K562"] * 8
    assert "choose one with --contexts" in check(predicted)["context"]
    assert check(predicted, contexts=["K562"]) == {}
    assert check(predicted, contexts=["K563"])["context"].endswith("(did you mean `K562`?)")
    assert (
        check(predicted, contexts=["H1", "K562"])["context"]
        == "the season's file holds one context, and --contexts names 2"
    )


def test_all_problems_come_at_once_in_one_table(make, genes, gene_file):
    predicted = make(genes[:-1])[4:].copy()
    predicted.X.data[0] = np.nan
    gene_file.write_text("gene\n" + gene_file.read_text())
    outcome = validate(predicted, "2025", gene_file)
    assert [p.split(":")[0] for p in outcome.problems] == ["control", "gene list", "number of genes", "genes", "finite"]
    table = validation_table(outcome)
    marks = [str(cell) for cell in table.columns[1].cells]
    assert marks.count("FAIL") == 5
    assert (marks.count("PASS"), marks.count("—")) == (7, 1)


def test_an_absent_gene_list_is_a_sentence(make, genes, tmp_path):
    with pytest.raises(StateshiftError, match="there is no such list of genes"):
        validate(make(genes), "2025", tmp_path / "nowhere.csv")
