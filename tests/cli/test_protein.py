"""``stateshift protein`` as it is typed: what it prints, and how it ends on a mistake."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import numpy as np
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["protein", "toy", "toy"])
    assert done.stdout.split() == ["toy/toy.fasta", "toy/toy.pkl"]
    return tmp_path / "toy"


def run(*words):
    done = CliRunner().invoke(app, ["protein", *map(str, words)])
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_inspect_shows_facts_rows_and_the_match(toy):
    shown = run("inspect", toy / "toy.pkl", "--fasta", toy / "toy.fasta", "--rows", 2, "-o", "table.csv")
    assert "37 ids, float32" in shown
    assert "36 × 128" in shown
    assert "… and 35 more" in shown
    assert "37 ids have L rows" in shown
    assert len((toy.parent / "table.csv").read_text().splitlines()) == 38


def test_inspect_ends_with_the_problems_after_all_that_could_be_shown(toy):
    (toy / "bad.pkl").write_bytes(pickle.dumps({"a": np.full(3, np.nan), "b": np.ones(3)}))
    done = CliRunner().invoke(app, ["protein", "inspect", str(toy / "bad.pkl")])
    assert isinstance(done.exception, StateshiftError)
    assert "1 ids hold values that are not finite: a." in str(done.exception)
    assert "2 ids, float64" in done.stdout


def test_pool_names_the_pooling(toy):
    assert "The stored vectors are: mean. 37 proteins" in run("pool", toy / "toy.pkl", "--fasta", toy / "toy.fasta")
    made = OrderedDict(
        (id, {"residue": np.eye(3, dtype="f4") + i, "protein": np.zeros(3, "f4")}) for i, id in enumerate("ab")
    )
    (toy / "odd.pkl").write_bytes(pickle.dumps(made))
    assert "none of these poolings, nearest is" in run("pool", toy / "odd.pkl")


def test_mutations_scan_and_map_say_what_they_wrote(toy):
    assert "36 mutants of WT; mutations.csv" in run(
        "mutations", toy / "toy.fasta", "--embeddings", toy / "toy.pkl", "-o", toy / "m"
    )
    (toy / "short.fasta").write_text(">WT\nMK\n")
    assert "38 single mutants" in run("mutations", toy / "short.fasta", "--scan", "--score", "-o", toy / "s")
    shown = run("map", toy / "toy.pkl", "-o", toy / "map", "--table", toy / "m" / "mutations.csv", "--color", "third")
    assert "37 proteins" in shown
    assert "% of variance" in shown
    assert "1 ids are not in the table: WT." in shown


def test_a_scan_takes_no_stored_embeddings(toy):
    words = ["protein", "mutations", str(toy / "toy.fasta"), "--scan", "--embeddings", str(toy / "toy.pkl"), "-o", "s"]
    assert "leave one of them out" in str(CliRunner().invoke(app, words).exception)


def test_ids_are_shown_whole_and_as_they_stand_where_no_terminal_sets_a_width(toy):
    long = "sp|P04637|" + "P53_HUMAN_" * 20
    (toy / "x.fasta").write_text(f">{long} [gene=tp53] [/x] :smile:\nMKV\n>b\nMKA\n>WT\nMKL\n")
    shown = run("inspect", toy / "x.fasta")
    assert long in shown
    assert "[gene=tp53] [/x] :smile:" in shown
    shown = run("mutations", toy / "x.fasta", "-o", toy / "m")
    assert long in shown
    assert "cosine_at_site" in shown


def test_on_a_terminal_long_ids_are_folded_and_nothing_of_them_is_lost(toy, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    (toy / "x.fasta").write_text(">" + "Q" * 150 + "\nMKV\n")
    shown = run("inspect", toy / "x.fasta")
    assert shown.count("Q") == 150
    assert "…" not in shown
