"""Contexts, controls, targets and numbers of cells: each rule at its limit, and what it says."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from stateshift.challenge import validate
from stateshift.challenge.seasons import competition_folder


@pytest.fixture
def of_2025(gene_file):
    """Every check of the season of one context, name → (status, detail)."""

    def run(predicted, season="2025", **options):
        outcome = validate(predicted, season, gene_file, expected_gene_dim=30, **options)
        return {c.name: (c.status, c.detail) for c in outcome.checks}

    return run


@pytest.fixture
def of_2026(zero_shot, genes, bundle, rules_2026):
    """Every check of the season of several contexts, of a prediction that is edited."""

    def run(edit=lambda cells: None, targets="target_gene\nG01\nG02\nG03\n", season=rules_2026, **options):
        cells = zero_shot(genes)
        cells = cells[cells.obs["target_gene"] != "non-targeting"].copy()
        edited = edit(cells)
        (bundle / "pert_counts.csv").write_text(targets)
        given = {"pert_counts": bundle / "pert_counts.csv", **options}
        outcome = validate(cells if edited is None else edited, season, bundle / "gene_names.csv", **given)
        return {c.name: (c.status, c.detail) for c in outcome.checks}

    return run


def relabelled(column, old, new):
    def edit(cells):
        cells.obs[column] = cells.obs[column].replace(old, new)

    return edit


def rules(folder, old, new):
    path = folder / "rules.toml"
    path.write_text((competition_folder() / "2025" / "rules.toml").read_text().replace(old, new))
    return path


@pytest.mark.parametrize(
    ("rule", "name", "worse"), [("200_000", "number of cells", "fail"), ("100_000", "advised cells", "warn")]
)
def test_as_many_cells_as_the_season_allows_are_not_too_many(make, genes, of_2025, tmp_path, rule, name, worse):
    cells = make(genes)
    assert of_2025(cells, rules(tmp_path, rule, "16"))[name][0] == "pass"
    assert of_2025(cells, rules(tmp_path, rule, "15"))[name][0] == worse


def test_one_cell_is_a_prediction_and_none_is_not(make, genes, of_2025):
    found = of_2025(make(genes)[9:10].copy())
    assert found["number of cells"] == ("pass", "1 of at most 200,000")
    assert found["advised cells"][0] == "pass"
    assert found["predictions"] == ("pass", "1 perturbations")
    assert of_2025(make(genes)[:0].copy())["number of cells"][0] == "fail"


def test_of_the_chosen_context_alone_cells_and_controls_count(make, genes, of_2025):
    cells = make(genes)
    cells.obs["context"] = ["H1", "K562", "K562", "K562"] * 4
    found = of_2025(cells, contexts=["H1"])
    assert found["context"] == ("pass", "H1")
    assert found["control"] == ("pass", "1 cells of `ctrl` become `non-targeting`")
    assert found["number of cells"][1].startswith("4 of")
    cells.obs["target_gene"] = cells.obs["target_gene"].astype(str)
    cells.obs.iloc[0, 0] = "G01"  # H1's only control
    assert of_2025(cells, contexts=["H1"])["control"][0] == "fail"


def test_a_season_of_one_context_takes_none_from_a_manifest_and_any_where_a_file_names_none(
    make, genes, of_2025, gene_file
):
    (gene_file.parent / "manifest.json").write_text(json.dumps({"contexts": ["A", "B"]}))
    cells = make(genes)
    assert of_2025(cells)["context"] == ("pass", "H1")
    del cells.obs["context"]
    assert of_2025(cells)["context"] == ("pass", "not named in the file")
    found = of_2025(cells, contexts=["H1"])
    assert found["context"] == ("fail", "no cell has the context `H1` (there are none)")
    assert found["number of cells"][1].startswith("16 of")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (relabelled("context", "B", "b"), r"B is not predicted; the season \(.*manifest\.json\) has no b \(did you mean `B`\?\)"),
        (relabelled("context", ["A", "B"], ["x", "y"]), r"A, B are not predicted; the season \(.*\) has no x, y\b"),
        (relabelled("context", "B", ""), "B is not predicted; 12 cells name no context"),
        (relabelled("context", "B", np.nan), "B is not predicted; 12 cells name no context"),
    ],
)  # fmt: skip
def test_all_that_is_wrong_with_contexts_is_said_at_once(of_2026, edit, said):
    status, detail = of_2026(edit)["contexts"]
    assert status == "fail"
    assert re.match(said, detail), detail


def test_without_contexts_the_cells_of_each_target_are_not_counted(of_2026):
    def without(cells):
        del cells.obs["context"]

    found = of_2026(without)
    assert found["contexts"] == ("fail", "obs has no column `context`; it has target_gene")
    assert "cells of each" not in found
    assert found["perturbations"][0] == "pass"


def test_the_lists_number_of_cells_comes_before_the_seasons(of_2026):
    listed = "target_gene,n_cells\nG01,3\nG02,\nG03,4\n"
    assert of_2026(targets=listed)["cells of each"] == (
        "fail", "2 targets have another number than 4: G01 in A 4 for 3, G01 in B 4 for 3",
    )  # fmt: skip

    def fewer(cells):
        return cells[[not (t == "G01" and i % 4 == 0) for i, t in enumerate(cells.obs["target_gene"])]].copy()

    assert of_2026(fewer, listed)["cells of each"] == ("pass", "as many as the list says of every target and context")
    assert of_2026(fewer)["cells of each"] == ("fail", "2 targets have another number than 4: G01 in A 3, G01 in B 3")
    assert of_2026(fewer, pert_counts=None)["cells of each"][0] == "fail"
    assert of_2026()["cells of each"] == ("pass", "4 of every target and context")


def test_each_context_is_held_to_its_own_targets(of_2026):
    listed = "target_gene,context\nG01,A\nG02,A\nG03,A\nG01,B\nG04,B\n"
    status, detail = of_2026(targets=listed)["perturbations"]
    assert (status, detail) == (
        "fail", "1 of the list are not predicted in B: G04; 2 predicted are not in the list in B: G02, G03",
    )  # fmt: skip

    def without(cells):
        return cells[(cells.obs["context"] == "A") | (cells.obs["target_gene"] == "G01")].copy()

    found = of_2026(without, targets=listed.replace("G04,B\n", ""))
    assert found["perturbations"] == ("pass", "all 3 of pert_counts.csv")
    # a context whose every target is absent
    only_a = of_2026(lambda cells: cells[cells.obs["context"] == "A"].copy(), targets=listed.replace("G04,B\n", ""))
    assert only_a["perturbations"] == ("fail", "1 of the list are not predicted in B: G01")


def test_a_misspelt_target_is_suggested_where_it_is_the_only_one(of_2026):
    one = of_2026(relabelled("target_gene", "G01", "G0I"))["perturbations"][1]
    assert one.count("(did you mean `G01`?)") == 2  # in each context
    two = of_2026(relabelled("target_gene", ["G01", "G02"], ["G0I", "GO2"]))["perturbations"][1]
    assert "did you mean" not in two
    more = of_2026(targets="target_gene\nG01\nG02\n")["perturbations"][1]
    assert more == "1 predicted are not in the list in A: G03; 1 predicted are not in the list in B: G03"


def test_cells_without_a_name_are_no_perturbation(of_2026):
    found = of_2026(relabelled("target_gene", "G01", ""))
    assert found["labels"] == ("fail", "8 cells name no perturbation")
    assert found["predictions"] == ("pass", "2 perturbations")
    assert found["perturbations"][1].startswith("1 of the list are not predicted in A: G01")
    assert of_2026()["labels"] == ("pass", "every cell names one")


def test_in_a_season_that_leaves_the_number_free_others_than_the_lists_are_told(make, genes, of_2025, tmp_path):
    table = tmp_path / "pert_counts.csv"
    table.write_text("target_gene,n_cells\nG01,4\nG02,9\nG03,\n")
    found = of_2025(make(genes), pert_counts=table)
    note = "all 3 of pert_counts.csv; 1 have another number of cells than the list, which the season allows"
    assert found["perturbations"] == ("pass", note)
    assert "cells of each" not in found
    table.write_text("target_gene,n_cells\nG01,4\nG02,4\nG03,4\n")
    assert of_2025(make(genes), pert_counts=table)["perturbations"] == ("pass", "all 3 of pert_counts.csv")
