"""The lists of a season's bundle: genes, targets and contexts, as spreadsheets and templates write them."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.challenge import read_season
from stateshift.challenge.lists import find_panel, read_gene_list, read_targets
from stateshift.errors import InputProblems, StateshiftError


def written(path, text):
    path.write_text(text)
    return path


def template(folder, **columns):
    obs = pd.DataFrame(columns)
    obs.index = [f"c{i}" for i in range(len(obs))]
    ad.AnnData(np.zeros((len(obs), 1), np.float32), obs).write_h5ad(folder / "template.h5ad")
    return folder / "template.h5ad"


def test_a_first_line_that_looks_like_a_header_is_one_unless_the_prediction_has_a_gene_of_that_name(tmp_path):
    path = written(tmp_path / "genes.csv", "gene\nG1\nG2\nG1\n")
    found = read_gene_list(path, ["G1", "G2"])
    assert (found.header, found.genes, found.twice) == ("gene", ["G1", "G2", "G1"], ["G1"])
    found = read_gene_list(path, ["gene", "G1", "G2"])
    assert (found.header, found.genes) == (None, ["gene", "G1", "G2", "G1"])


def test_the_controls_row_blanks_and_quotes_stand_anywhere_in_the_table(tmp_path):
    path = tmp_path / "pert_counts.csv"
    path.write_text(
        'target_gene, n_cells, context\nnon-targeting, 9, A\n"G01", "04", "A"\n, 3, A\nNA, 00, B\nG02, 7, "B"\n'
    )
    targets = read_targets(path, read_season("2026"))
    assert targets.cells == {"A": {"G01": 4}, "B": {"NA": 400, "G02": 7}}
    assert targets.names == {"non-targeting", "G01", "NA", "G02"}
    assert targets.of("A") == {"G01": 4}
    assert targets.of("C") == {}


def test_a_season_of_one_context_passes_over_a_tables_contexts_and_knows_no_number_of_cells(tmp_path):
    path = written(tmp_path / "pert_counts.csv", "target_gene,context\nG01,A\nG02,\n")
    targets = read_targets(path, read_season("2025"))
    assert targets.cells == {None: {"G01": None, "G02": None}}
    assert targets.of("anything") == {"G01": None, "G02": None}


def test_the_column_of_targets_goes_by_its_usual_name_or_by_the_seasons(tmp_path, rules_2026):
    rules_2026.write_text(rules_2026.read_text().replace('perturbation = "target_gene"', 'perturbation = "knocked"'))
    path = written(tmp_path / "t.csv", "knocked,target_gene\nG01,G02\n")
    assert read_targets(path, read_season(rules_2026)).cells == {None: {"G02": 4}}
    path.write_text("knocked,other\nG01,G02\n")
    assert read_targets(path, read_season(rules_2026)).cells == {None: {"G01": 4}}


def test_every_bad_line_is_named_whichever_comes_first(tmp_path):
    path = written(tmp_path / "t.csv", "target_gene,n_cells,context\nG01,3,\nG02,3.5,A\nG03,2,A\nG04,-1,\n")
    with pytest.raises(InputProblems) as error:
        read_targets(path, read_season("2026"))
    assert [problem.split(":")[0] for problem in error.value.problems] == ["line 2", "line 3", "line 5"]


def test_a_template_of_several_contexts_asks_in_each_for_as_many_cells_as_it_has_rows_there(tmp_path):
    rows = {"target_gene": ["G1", "non-targeting", "G1", "G2", "G1"], "context": ["A", "A", "A", "B", "B"]}
    targets = read_targets(template(tmp_path, **rows), read_season("2026"))
    assert targets.cells == {"A": {"G1": 2}, "B": {"G1": 1, "G2": 1}}
    assert targets.names == {"G1", "G2", "non-targeting"}
    assert read_targets(tmp_path / "template.h5ad", read_season("2025")).cells == {None: {"G1": 3, "G2": 1}}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"guide": ["G1"]}, "obs has no column `target_gene`"),
        ({"target_gene": ["non-targeting", "non-targeting"]}, "names no perturbation"),
        ({"target_gene": ["G1", None, None]}, r"template\.h5ad: 2 rows lack a name in target_gene\."),
        ({"target_gene": ["G1", "G2"], "context": ["A", None]}, "1 rows lack a name in target_gene or context"),
    ],
)
def test_a_template_that_does_not_name_its_targets_is_said(tmp_path, columns, said):
    with pytest.raises(StateshiftError, match=said):
        read_targets(template(tmp_path, **columns), read_season("2026"))


@pytest.fixture
def lists(tmp_path):
    """A gene list and a table of targets in two folders, and what their manifests hold."""
    for name in ("genes", "targets"):
        (tmp_path / name).mkdir()
    genes = written(tmp_path / "genes" / "gene_names.csv", "G1\n")
    table = written(tmp_path / "targets" / "pert_counts.csv", "target_gene\nG1\n")

    def of(contexts=None, with_targets=True, **manifests):
        for name in ("genes", "targets"):
            (tmp_path / name / "manifest.json").unlink(missing_ok=True)
            if name in manifests:
                written(tmp_path / name / "manifest.json", json.dumps(manifests[name]))
        found = find_panel(contexts, read_targets(table, read_season("2026")) if with_targets else None, genes)
        return found and (found.contexts, found.panel_id)

    return of


A_B, D_E = {"contexts": ["A", " B"], "panel_id": "p1"}, {"contexts": ["D", "E"], "panel_id": "p2"}


def test_the_manifest_beside_the_targets_comes_first_then_the_one_beside_the_genes(lists):
    assert lists() is None
    assert lists(genes=A_B) == (["A", "B"], "p1")
    assert lists(genes=A_B, targets=D_E) == (["D", "E"], "p2")
    assert lists(genes=A_B, targets=D_E, with_targets=False) == (["A", "B"], "p1")


def test_named_contexts_win_and_take_a_panels_id_only_of_the_same_ones(lists):
    assert lists(["B", "A"], genes=A_B) == (["B", "A"], "p1")
    assert lists(["A"], genes=A_B) == (["A"], None)
    assert lists(["A"], genes={"contexts": 3}) == (["A"], None)
    assert lists(["A"]) == (["A"], None)


@pytest.mark.parametrize("contexts", ["K562", [], ["A", 3], ["A", " "], {"A": 1}, None])
def test_a_manifest_whose_contexts_are_no_list_of_names_is_refused(lists, contexts):
    with pytest.raises(StateshiftError, match=r"can't be read as the bundle's manifest .*its contexts are no list"):
        lists(genes={"contexts": contexts})
    with pytest.raises(StateshiftError, match="can't be read as the bundle's manifest"):
        lists(genes=["A"])


def test_the_manifest_is_read_as_vcc_cli_reads_it(tmp_path):
    panel = pytest.importorskip("vcc.panel", reason="the official extra is not installed")
    genes = written(tmp_path / "gene_names.csv", "G1\n")
    for content in (A_B, {"contexts": ["A"]}, {"contexts": ["A"], "panel_id": 3}, {"contexts": ["A"], "panel_id": ""}):
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        ours, theirs = find_panel(None, None, genes), panel.read_bundle_manifest(str(genes))
        assert (ours.contexts, ours.panel_id) == (list(theirs.contexts), theirs.panel_id)
