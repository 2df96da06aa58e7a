"""The report of a sampling run says what can be computed by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.rag_esm.homologs.clusters import Cluster, write_clusters
from stateshift.rag_esm.model.checkpoint import save_rag_esm
from stateshift.rag_esm.sampling.report import composition, report_samples
from stateshift.rag_esm.sampling.sample import sample
from stateshift.rag_esm.sampling.settings import SamplingSettings


@pytest.fixture
def samples(tmp_path, demo_maker, protein_maker):
    """Three given proteins, nothing of them masked but one residue of the last."""
    save_rag_esm(demo_maker("last"), tmp_path / "model")
    given = protein_maker(40), protein_maker(40, 1), protein_maker(40, 2)
    (tmp_path / "in.fasta").write_text(f">a\n{given[0]}\n>b\n{given[1]}\n>c\n{given[2][:-1]}-\n")
    contexts = given[0], given[1][:36] + "WWWW", "W" * 40
    (tmp_path / "ctx.fasta").write_text("".join(f">h{i}\n{s}\n" for i, s in enumerate(contexts)))
    folder = sample(
        tmp_path / "model", tmp_path / "out", context=tmp_path / "ctx.fasta", masked=tmp_path / "in.fasta",
        settings=SamplingSettings(iterations=3), compute_perplexities=True,
    )  # fmt: skip
    return folder, given


def test_identities_to_context_and_training_are_told(samples, tmp_path):
    folder, given = samples
    data = tmp_path / "data"
    data.mkdir()
    near = given[1][:30] + "W" * 10
    write_clusters([Cluster("f", ("x", "y"), (given[0], near))], data / "train.jsonl")
    write_clusters([Cluster("g", ("z", "w"), ("MK", "MA"))], data / "val.jsonl")
    rows = report_samples(folder, tmp_path / "r.html", data)
    assert rows[0]["identity_to_context"] == 1
    assert rows[1]["identity_to_context"] == pytest.approx(0.9, abs=0.03)
    assert rows[2]["identity_to_context"] < 0.2
    assert [row["nearest_training"] for row in rows[:2]] == ["f/x", "f/y"]
    assert rows[0]["identity_to_training"] == 1
    assert rows[1]["identity_to_training"] == pytest.approx(0.75, abs=0.05)
    page = (tmp_path / "r.html").read_text()
    assert "<polyline" in page
    assert "perplexity rag esm" in page
    assert "Model model; iterations 3, top k 0" in page
    assert list(csv.DictReader((tmp_path / "r.csv").open()))[1]["nearest_training"] == "f/y"


def test_the_composition_is_of_all_residues():
    np.testing.assert_allclose(composition(["AAAA", "CCWX"]).nonzero()[0], [0, 1, 18])
    np.testing.assert_allclose(composition(["AAAA", "CCWX"])[[0, 1, 18]], [4 / 7, 2 / 7, 1 / 7])


def test_a_folder_without_samples_and_a_report_that_exists_are_refused(samples, tmp_path):
    with pytest.raises(StateshiftError, match="holds no samples"):
        report_samples(tmp_path, tmp_path / "r.html")
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(StateshiftError, match="exists already"):
        report_samples(samples[0], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(StateshiftError, match=r"s\.csv exists already"):
        report_samples(samples[0], tmp_path / "s.html")
    assert not (tmp_path / "s.html").exists()
