"""2026's file: several contexts, whole counts, no controls; vcc-cli itself reads it."""

from __future__ import annotations

import io
import json
import tarfile

import anndata as ad
import numpy as np
import pytest
import zstandard

from stateshift.challenge import export_submission, validate
from stateshift.errors import InputProblems, StateshiftError


@pytest.fixture
def check(bundle, rules_2026):
    """The failures of a prediction, check name → detail."""

    def run(predicted, status="fail", **options):
        options = {"pert_counts": bundle / "pert_counts.csv", **options}
        outcome = validate(predicted, rules_2026, bundle / "gene_names.csv", **options)
        return {c.name: c.detail for c in outcome.checks if c.status == status}

    return run


@pytest.fixture
def export(bundle, rules_2026, tmp_path):
    def run(predicted, name="submission.vcc"):
        path = tmp_path / "predicted.h5ad"
        predicted.write_h5ad(path)
        lists = {"genes": bundle / "gene_names.csv", "pert_counts": bundle / "pert_counts.csv"}
        return export_submission(path, season=rules_2026, output=tmp_path / name, **lists)

    return run


def taken_apart(vcc, folder):
    """The AnnData within a `.vcc`, its meta, and the names of its members."""
    with tarfile.open(vcc, "r:") as tar:
        names = tar.getnames()
        meta = json.loads(tar.extractfile("meta.json").read())
        packed = tar.extractfile("pred.h5ad.zst").read()
    plain = folder / "inside.h5ad"
    plain.write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    return ad.read_h5ad(plain), meta, names


def perturbed(cells):
    return cells[cells.obs["target_gene"] != "non-targeting"].copy()


def test_the_file_holds_every_context_and_no_control(zero_shot, genes, export, tmp_path):
    predicted = zero_shot(genes)
    done = export(predicted)
    inside, meta, names = taken_apart(done.path, tmp_path)
    assert names == ["meta.json", "pred.h5ad.zst"]
    own = perturbed(predicted)
    assert np.array_equal(inside.X.toarray(), own.X.toarray()[:, ::-1])
    assert (inside.X.format, inside.X.dtype, inside.var_names.tolist()) == ("csr", np.float32, genes[::-1])
    assert inside.obs[["context", "target_gene"]].to_numpy().tolist() == own.obs.to_numpy().tolist()
    assert (done.cells, done.controls, done.dropped_controls, done.perturbations) == (24, 0, 12, 3)
    assert (meta["nnz"], meta["n_obs"], meta["n_vars"], meta["panel_id"]) == (own.X.nnz, 24, 30, "p1")


def test_genes_beyond_the_list_are_left_out_and_not_counted(zero_shot, genes, export, tmp_path):
    done = export(zero_shot([*genes, "EXTRA"]))
    inside, meta, _ = taken_apart(done.path, tmp_path)
    assert (list(inside.var_names), done.dropped_genes, meta["nnz"]) == (genes[::-1], 1, inside.X.nnz)


def test_vcc_cli_reads_the_file_and_finds_nothing_wrong_with_it(zero_shot, genes, bundle, export, tmp_path):
    vccfile = pytest.importorskip("vcc.vccfile", reason="the official extra is not installed")
    from vcc.panel import perts_fingerprint
    from vcc.prep import run_prep

    done = export(zero_shot(genes))
    vccfile.validate_vcc(done.path)
    inside, meta, _ = taken_apart(done.path, tmp_path)
    assert vccfile.nnz_from_vcc(done.path) == inside.X.nnz
    assert vccfile.contexts_from_vcc(done.path) == ("A", "B")
    assert meta["perts_fingerprint"] == perts_fingerprint(str(bundle / "pert_counts.csv"))
    lists = {"genes_path": str(bundle / "gene_names.csv"), "perts_path": str(bundle / "pert_counts.csv")}
    small = {"expected_gene_dim": 30, "cells_per_pert": 4, "required_contexts": ("A", "B")}
    theirs = run_prep(
        input_path=str(tmp_path / "inside.h5ad"), output_path=str(tmp_path / "theirs.vcc"), **lists, **small
    )
    assert (theirs.n_cells, theirs.nnz, theirs.dropped, theirs.reordered_genes) == (24, inside.X.nnz, [], False)
    again, their_meta, their_names = taken_apart(tmp_path / "theirs.vcc", tmp_path)
    assert their_names == ["meta.json", "pred.h5ad.zst"]
    assert np.array_equal(again.X.toarray(), inside.X.toarray())
    assert {k: v for k, v in their_meta.items() if k in ("schema", "nnz", "n_obs", "n_vars")} == {
        k: meta[k] for k in ("schema", "nnz", "n_obs", "n_vars")
    }


def test_vcc_clis_own_sample_raises_no_alarm(bundle, rules_2026, tmp_path):
    sample = pytest.importorskip("vcc.sample", reason="the official extra is not installed")
    lists = {"genes_path": str(bundle / "gene_names.csv"), "perts_path": str(bundle / "pert_counts.csv")}
    sample.run_sample(**lists, output_path=str(tmp_path / "sample.vcc"), contexts=("A", "B"), cells_per_pert=4, seed=0)
    inside, _, _ = taken_apart(tmp_path / "sample.vcc", tmp_path)
    outcome = validate(inside, rules_2026, lists["genes_path"], pert_counts=lists["perts_path"])
    assert outcome.problems == []
    assert outcome.warnings == []


def test_the_same_prediction_gives_the_same_bytes(zero_shot, genes, export):
    assert export(zero_shot(genes)).checksum == export(zero_shot(genes), "again.vcc").checksum


def test_a_good_prediction_passes_with_its_figures(zero_shot, genes, check, bundle, tmp_path):
    cells = zero_shot(genes)
    cells.write_h5ad(tmp_path / "controls.h5ad")
    assert check(perturbed(cells)) == {}
    assert set(check(perturbed(cells), "open")) == {"differ from controls", "contexts' labels"}
    passed = check(perturbed(cells), "pass", controls=tmp_path / "controls.h5ad")
    assert passed["contexts' labels"] == "6 of 6 populations are most like their own context's controls"
    assert passed["cells of each"] == "4 of every target and context"
    assert passed["contexts"] == f"A, B ({bundle / 'manifest.json'})"


def test_swapped_contexts_show_against_the_controls(zero_shot, genes, check, tmp_path):
    cells = zero_shot(genes)
    cells.write_h5ad(tmp_path / "controls.h5ad")
    swapped = perturbed(cells)
    swapped.obs["context"] = swapped.obs["context"].map({"A": "B", "B": "A"})
    failed = check(swapped, controls=tmp_path / "controls.h5ad")
    assert failed == {
        "contexts' labels": "3 of 3 targets in A are most like the controls of B; "
        "3 of 3 targets in B are most like the controls of A: swapped?"
    }
    assert check(swapped) == {}


def test_contexts_whose_controls_are_alike_are_not_called_swapped(zero_shot, genes, check, tmp_path):
    cells = zero_shot(genes, contexts=("A",), cells=8, controls=40)
    controls = cells[cells.obs["target_gene"] == "non-targeting"].copy()
    controls.obs["context"] = ["A", "B"] * 20
    controls.write_h5ad(tmp_path / "controls.h5ad")
    halves = perturbed(cells)
    halves.obs["context"] = ["A"] * 4 + ["B"] * 4 + ["A"] * 4 + ["B"] * 4 + ["A"] * 4 + ["B"] * 4
    assert check(halves, controls=tmp_path / "controls.h5ad") == {}
    told = check(halves, "open", controls=tmp_path / "controls.h5ad")
    assert told == {"contexts' labels": "the control cells of A and B are too alike to tell them apart"}


def test_controls_under_a_targets_name_are_found(zero_shot, genes, check, tmp_path):
    cells = zero_shot(genes)
    cells[:, ::-1].copy().write_h5ad(tmp_path / "controls.h5ad")
    copied = perturbed(cells)
    X = copied.X.toarray()
    X[:4] = cells.X.toarray()[[5, 2, 0, 3]]
    copied.X = X
    failed = check(copied, controls=tmp_path / "controls.h5ad")
    assert failed == {
        "differ from controls": "1 perturbations are copies of control cells and predict nothing: G01 in A"
    }


def test_control_cells_that_an_export_leaves_out_are_compared_with_all_the_same(zero_shot, genes, check):
    cells = zero_shot(genes)
    assert check(cells) == {}
    assert set(check(cells, "open")) == {"contexts' labels"}
    X = cells.X.toarray()
    X[6:10] = X[[5, 2, 0, 3]]
    cells.X = X
    assert check(cells) == {
        "differ from controls": "1 perturbations are copies of control cells and predict nothing: G01 in A"
    }


def cells_of_g01(cells):
    return ((cells.obs["target_gene"] == "G01") & (cells.obs["context"] == "A")).to_numpy()


def undeclared(cells):
    fractional(cells)
    del cells.uns["stateshift"]["scale"]


def fractional(cells):
    cells.X.data[:] = np.log1p(cells.X.data)
    cells.uns["stateshift"]["scale"] = "log1p"


def mixed(cells):
    cells.X.data[: cells.X.indptr[3]] += 0.5


def halves(cells):
    cells.X.data += 0.5


def too_many_counts(cells):
    cells.X.data[2] = 2_000_000


def all_zero(cells):
    X = cells.X.toarray()
    X[cells_of_g01(cells)] = 0
    cells.X = X


def a_negative(cells):
    cells.X.data[7] = -1


def a_nan(cells):
    cells.X.data[7] = np.nan


def a_wrong_context(cells):
    cells.obs["context"] = cells.obs["context"].replace("B", "b")


def a_misspelt_target(cells):
    cells.obs["target_gene"] = cells.obs["target_gene"].replace("G01", "G1")


@pytest.mark.parametrize(
    ("plant", "name", "said"),
    [
        (fractional, "scale", "log1p (declared), and the season wants whole counts"),
        (undeclared, "scale", "fractions (read off the values), and the season wants whole counts"),
        (mixed, "one scale", "21 cells hold whole numbers alone and 3 hold fractions (G01 in A)"),
        (halves, "scale", "the scale is declared `counts`, and it holds fractions"),
        (too_many_counts, "counts of a cell", "1 cells hold more than 1,000,000 counts"),
        (all_zero, "no empty perturbation", "1 hold nothing but zeros: G01 in A"),
        (a_negative, "not negative", "1 values are negative"),
        (a_nan, "finite", "1 values are NaN or infinite"),
    ],
)
def test_each_rule_of_the_values_finds_its_fault_and_no_other(zero_shot, genes, check, plant, name, said):
    cells = perturbed(zero_shot(genes))
    plant(cells)
    failed = check(cells)
    assert list(failed) == [name]
    assert said in failed[name]


def test_each_rule_of_the_labels_finds_its_fault(zero_shot, genes, check):
    cells = perturbed(zero_shot(genes))
    assert check(cells[1:].copy()) == {"cells of each": "1 targets have another number than 4: G01 in A 3"}
    a_misspelt_target(cells)
    failed = check(cells)
    assert list(failed) == ["perturbations"]
    assert (
        "1 of the list are not predicted in A: G01; 1 predicted are not in the list in A: G1 (did you mean `G01`?)"
        in (failed["perturbations"])
    )
    cells = perturbed(zero_shot(genes))
    a_wrong_context(cells)
    assert "B is not predicted; the season" in check(cells)["contexts"]
    del cells.obs["context"]
    assert "obs has no column `context`; it has target_gene" in check(cells)["contexts"]


def test_what_the_season_allows_and_a_prediction_should_not_have_is_a_warning(zero_shot, genes, check):
    cells = perturbed(zero_shot(genes))
    X = cells.X.toarray()
    X[1:4], X[11] = X[0], X[10]
    X[8] = X[4]
    cells.X = X
    assert check(cells) == {}
    warned = check(cells, "warn")
    assert warned["no cell twice"] == (
        "2 cells stand under several targets or contexts: G02 in A, G03 in A; 6 cells stand more than once under one"
    )
    assert warned["variance"].endswith("as pasted means are: G01 in A")


def test_without_a_manifest_the_contexts_are_asked_for(zero_shot, genes, check, bundle):
    (bundle / "manifest.json").unlink()
    cells = perturbed(zero_shot(genes))
    assert "keep manifest.json beside the lists, or name them with --contexts" in check(cells)["contexts"]
    assert check(cells, contexts=["A", "B"]) == {}
    assert check(cells, contexts=["A", "B", "C"])["contexts"] == "C is not predicted"
    (bundle / "pert_counts.csv").write_text("target_gene,context\nG01,A\nG02,A\nG03,A\nG01,B\nG02,B\nG03,B\n")
    assert check(cells) == {}


def test_lists_of_two_bundles_are_told_apart(zero_shot, genes, check, bundle):
    (bundle / "pert_counts.csv").write_text("target_gene,context\nG01,D\n")
    cells = perturbed(zero_shot(genes))
    cells.X[0, 0] = -1
    found = check(cells)
    assert "manifest.json is of the contexts A, B, and " in found["contexts"]
    assert found["contexts"].endswith("pert_counts.csv of D: take both from one bundle, or name the --contexts")
    assert found["not negative"] == "1 values are negative"
    (bundle / "manifest.json").write_text("{")
    with pytest.raises(StateshiftError, match=r"manifest.json can't be read as the bundle's manifest"):
        check(perturbed(zero_shot(genes)))


def test_lists_from_windows_are_read_like_any(zero_shot, genes, check, bundle):
    (bundle / "gene_names.csv").write_bytes(("\ufeff" + "\r\n".join(genes) + "\r\n").encode())
    (bundle / "pert_counts.csv").write_bytes(
        "\ufefftarget_gene\r\nG01\r\nG02 \r\nG03\r\nG03\r\nnon-targeting\r\n".encode()
    )
    assert check(perturbed(zero_shot(genes))) == {}


def test_ensembl_ids_for_symbols_are_told(zero_shot, genes, check):
    cells = perturbed(zero_shot(genes))
    cells.var_names = [f"ENSG{i:011d}" for i in range(30)]
    assert check(cells)["genes"].endswith("the prediction names genes by Ensembl ids and the list by symbols")


def test_a_disk_without_room_is_told_before_anything_is_written(zero_shot, genes, export, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StateshiftError, match="make room or name another place"):
        export(zero_shot(genes))
    assert not list(tmp_path.glob("*.vcc*"))


def test_an_invented_season_of_counts_with_a_mark(zero_shot, genes, bundle, tmp_path):
    rules = tmp_path / "invented.toml"
    rules.write_text(
        'season = "2031"\ntitle = "Invented"\n'
        '[cells]\nperturbation = "knocked_out"\ncontext = "tissue"\ncontrol = "none"\ncontrols = true\n'
        "genes = 30\nmost = 100\n"
        '[values]\nscale = "counts"\n'
        '[file]\nmatrix = "cells.h5ad"\nzstd_level = 1\nmark = "mark.txt"\nmark_text = "hello"\n'
        '[score]\nlike = "2026"\n'
    )
    zero_shot(genes).write_h5ad(tmp_path / "p.h5ad")
    done = export_submission(
        tmp_path / "p.h5ad", season=rules, genes=bundle / "gene_names.csv", output=tmp_path / "o.vcc"
    )
    assert (done.cells, done.controls) == (36, 12)
    with tarfile.open(done.path) as tar:
        assert tar.getnames() == ["cells.h5ad.zst", "mark.txt"]
        packed = tar.extractfile("cells.h5ad.zst").read()
    (tmp_path / "cells.h5ad").write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    inside = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert inside.obs["knocked_out"].value_counts()["none"] == 12
    assert sorted(inside.obs["tissue"].unique()) == ["A", "B"]


def test_rules_that_disagree_with_themselves_are_refused(tmp_path, rules_2026):
    text = rules_2026.read_text()
    rules_2026.write_text(text.replace('scale = "counts"', 'scale = "log1p"').replace('"meta.json"', '"../meta.json"'))
    with pytest.raises(InputProblems) as error:
        validate(ad.AnnData(), rules_2026, tmp_path / "none.csv")
    assert error.value.problems == [
        "[values] below is missing: log1p values need their limit.",
        "[file] `../meta.json` is no plain file name.",
    ]
