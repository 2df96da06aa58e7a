"""``stateshift bioemb``: every command on a small table, and the downstream check's one table and plot."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from stateshift.bioemb.comparison.evaluate import evaluate_bioemb
from stateshift.bioemb.trained import open_bioemb
from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable

pytestmark = pytest.mark.usefixtures("tiny", "table")
RUNNER = CliRunner()


@pytest.fixture
def labels(write):
    """The family of each gene, three classes, and its half."""
    return write("l.csv", "name,label,half\n" + "".join(f"G{i},{'abc'[i // 8 % 3]},h{i // 4}\n" for i in range(48)))


def said(*words: object) -> str:
    done = RUNNER.invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.output


def test_codes_train_and_evaluate_from_the_command_line(overrides, labels, tmp_path):
    told = said("bioemb", "codes", tmp_path / "t.pt", "-o", tmp_path / "c.npz", "--k", 4)
    assert "48 names, 47 different vectors, each with a code of its own." in told
    assert "48 names × 6 values" in said("bioemb", "train", "--config", "genes", *overrides("run"))
    FeatureTable([f"G{i}" for i in range(48)], np.random.default_rng(1).standard_normal((48, 5))).save(
        tmp_path / "m.pt"
    )
    told = said(
        "bioemb", "evaluate", labels, "-o", tmp_path / "scores", "--run", tmp_path / "run", "--mlm", tmp_path / "m.pt",
        "--split", "grouped", "--group-column", "half",
    )  # fmt: skip
    assert "accuracy" in told
    with (tmp_path / "scores" / "scores.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["table"] for row in rows] == [
        "raw",
        "PCA",
        "random projection",
        "MLM",
        "BioEmb, random codes",
        "BioEmb",
    ]
    assert [row["width"] for row in rows] == ["8", "6", "6", "5", "6", "6"]
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
    assert all(len(row["seeds"].split()) == 3 for row in rows)
    assert (tmp_path / "scores" / "scores.png").read_bytes()[:4] == b"\x89PNG"
    control = open_bioemb(tmp_path / "scores" / "random_codes")
    assert control.settings.codes.shuffled
    assert control.fitted == open_bioemb(tmp_path / "run").fitted


def test_a_table_alone_has_the_rows_that_need_no_training(labels, tmp_path):
    compared = evaluate_bioemb(labels, tmp_path / "s", table=tmp_path / "t.pt", width=3)
    assert [(s.table, s.width) for s in compared] == [("raw", 8), ("PCA", 3), ("random projection", 3)]


def test_pca_is_that_of_the_fitted_genes(overrides, write, table, tmp_path):
    from sklearn.decomposition import PCA

    from stateshift.bioemb.comparison.rows import compared_tables, read_source
    from stateshift.bioemb.training.train import train_bioemb

    train_bioemb("genes", overrides("run", f"data.held_out={write('h.txt', 'G1 G2 G5'.replace(' ', chr(10)))}"))
    source = read_source(tmp_path / "run", None, None)
    rows = compared_tables(source, None, tmp_path / "out")
    kept = [i for i in range(48) if i not in (1, 2, 5)]
    assert source.fitted == [f"G{i}" for i in kept]
    by_hand = PCA(6, random_state=0).fit(table.vectors[kept]).transform(table.vectors)
    np.testing.assert_allclose(rows["PCA"].vectors, by_hand, atol=1e-4)
    assert rows["BioEmb, random codes"].provenance["fit"] == rows["BioEmb"].provenance["fit"] == "training genes only"


def test_arguments_that_contradict_each_other_are_refused(labels, overrides, tmp_path):
    for given, wrong in (
        ({}, "one of --run.*and --table"),
        ({"table": tmp_path / "t.pt", "seeds": 2}, "three at least"),
        ({"table": tmp_path / "t.pt", "split": "grouped"}, "--group-column"),
    ):
        with pytest.raises(StateshiftError, match=wrong):
            evaluate_bioemb(labels, tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "scores.csv").write_text("")
    with pytest.raises(StateshiftError, match="holds scores already"):
        evaluate_bioemb(labels, tmp_path / "full", table=tmp_path / "t.pt")


def test_a_projection_is_scaled_by_the_fitted_genes(overrides, write, table, tmp_path):
    from stateshift.bioemb.comparison.rows import _projection

    kept = [gene for gene in table.genes if gene != "G5"]
    vectors = table.vectors.copy()
    vectors[5] *= 1000
    before, after = _projection(table, kept, 3), _projection(FeatureTable(table.genes, vectors), kept, 3)
    np.testing.assert_array_equal(before.subset(kept).vectors, after.subset(kept).vectors)


def test_the_control_of_another_run_is_refused_and_ones_own_is_read(overrides, labels, tmp_path):
    from stateshift.bioemb.comparison.rows import compared_tables, read_source
    from stateshift.bioemb.training.train import train_bioemb

    for name, seed in (("run", 0), ("other", 1)):
        train_bioemb("genes", overrides(name, f"seed={seed}"))
    out = tmp_path / "out"
    made = compared_tables(read_source(tmp_path / "run", None, None), None, out)
    read = compared_tables(read_source(tmp_path / "run", None, None), None, out)
    np.testing.assert_array_equal(made["BioEmb, random codes"].vectors, read["BioEmb, random codes"].vectors)
    with pytest.raises(StateshiftError, match="random_codes is the control of another run"):
        compared_tables(read_source(tmp_path / "other", None, None), None, out)


def test_it_is_told_how_many_tested_names_the_fit_saw_and_where_mlm_saw_more(
    overrides, labels, write, tmp_path, caplog
):
    from stateshift.bioemb.training.train import train_bioemb

    caplog.set_level("INFO")
    train_bioemb("genes", overrides("run", f"data.held_out={write('h.txt', 'G1')}"))
    FeatureTable([f"G{i}" for i in range(48)], np.eye(48), {"source": "mlm", "not_fitted": []}).save(tmp_path / "m.pt")
    evaluate_bioemb(labels, tmp_path / "s", run=tmp_path / "run", mlm=tmp_path / "m.pt")
    assert "PCA and BioEmb are fitted on vectors, never on labels: of 47 of these names, and of " in caplog.text
    assert "trained on names that BioEmb never saw (1: G1)." in caplog.text


def test_calls_without_both_answers_to_test_are_refused(write, tmp_path):
    rows = "".join(f"G{i},x,1,{'test' if i % 2 else 'train'}\n" for i in range(40))
    calls = write("c.csv", "name,gene,label,split\n" + rows)
    given = {"task_column": "gene", "split_column": "split", "split": "given", "table": tmp_path / "t.pt"}
    with pytest.raises(StateshiftError, match="no question with both answers to test"):
        evaluate_bioemb(calls, tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()


def test_an_mlm_table_that_lacks_names_is_refused(labels, tmp_path):
    FeatureTable(["G0", "G1"], np.eye(2)).save(tmp_path / "m.pt")
    with pytest.raises(StateshiftError, match=r"m\.pt lacks 46 names of the raw table: G2, G3"):
        evaluate_bioemb(labels, tmp_path / "s", table=tmp_path / "t.pt", mlm=tmp_path / "m.pt")
