"""``stateshift structure`` as a user types it: from files to hits, and mistakes in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError

pytest.importorskip("gemmi", reason="structures need the extra `structure`")


def done(*words: object) -> str:
    run = CliRunner().invoke(app, ["structure", *map(str, words)])
    assert run.exit_code == 0, run.exception
    return run.stdout


def refused(*words: object) -> str:
    run = CliRunner().invoke(app, ["structure", *map(str, words)])
    assert isinstance(run.exception, StateshiftError), run.exception
    return str(run.exception)


@pytest.fixture
def some(tmp_path, shared_data):
    """Four domains and a file that is none."""
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("cath/1i", "cath/1k"):
        for file in sorted((shared_data / "structure").glob(f"{name}*.pdb"))[:2]:
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.cif").write_text("data_x\n")
    return folder


def test_from_structures_to_vectors_hits_clusters_and_edges(some, tmp_path):
    told = done("embed", some, "--output-path", tmp_path / "v", "--output-name", "all", "--accelerator", "cpu")
    assert "4 results; 1 failed, see the .failures.csv" in told
    vectors = tmp_path / "v" / "all.parquet"
    assert len(pd.read_parquet(vectors)) == 4
    assert "4 vectors × 128, exact" in done("index", "build", vectors, "-o", tmp_path / "i")
    assert "0 new, 4 replaced" in done("index", "update", tmp_path / "i", vectors)
    assert "replaced: 0" in done("index", "stats", tmp_path / "i")
    one = sorted(some.glob("*.pdb"))[0]
    done("search", tmp_path / "i", one, "-o", tmp_path / "h.csv", "--page", tmp_path / "h.html", "--top-k", 2)
    hits = pd.read_csv(tmp_path / "h.csv")
    assert hits["Match"][0] == hits["Query"][0]
    assert hits["Score"][0] == pytest.approx(1, abs=1e-4)
    assert hits["Match"][1] in (tmp_path / "h.html").read_text()
    assert "of 4 entries" in done("cluster", tmp_path / "i", "-o", tmp_path / "c.csv")
    assert list(pd.read_csv(tmp_path / "c.csv").columns) == ["Name", "Cluster"]
    done("graph", tmp_path / "i", "-o", tmp_path / "g.csv", "--threshold", "0.1")
    assert len(pd.read_csv(tmp_path / "g.csv")) == 6


def test_complete_on_two_devices_does_each_structure_once(some, tmp_path):
    # the console script: Lightning starts it again for the second device
    run = subprocess.run(
        [Path(sys.executable).with_name("stateshift"), "structure",
        "complete", some, "--residues-path", tmp_path / "r", "--chains-path", tmp_path / "c", "--assemblies-path",
        tmp_path / "a", "--output-format", "grouped", "--accelerator", "cpu", "--devices", "2"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("4 results") == 2
    assert len(list((tmp_path / "r").glob("*.pt"))) == 4
    assert len(pd.read_csv(tmp_path / "c" / "chains.csv")) == 4
    failures = pd.read_csv(tmp_path / "a" / "assemblies.failures.csv")
    assert len(failures) == 5
    assert failures["failure"].str.contains("describes no biological assembly").sum() == 4


def test_addresses_are_sources_as_they_are(tmp_path):
    told = refused("embed", "http://127.0.0.1:9/1acb.cif", "--output-path", tmp_path / "v", "--accelerator", "cpu")
    assert "all 1 failed" in told
    assert "http://127.0.0.1:9/1acb.cif can't be fetched" in (tmp_path / "v" / "embeddings.failures.csv").read_text()
    told = refused("index", "build", "http://127.0.0.1:9/1acb.cif", "-o", tmp_path / "i")
    assert "http://127.0.0.1:9/1acb.cif can't be fetched" in told


def test_mistakes_are_one_sentence(some, tmp_path):
    assert "no such folder or file" in refused("chains", "--output-path", tmp_path / "x", tmp_path / "none")
    words = ("residues", some, "--output-path", tmp_path / "x")
    assert "did you mean `separated`" in refused(*words, "--output-format", "seperated")
    assert "--file-type pickle is none" in refused(*words, "--file-type", "pickle")
    assert "no results, all 1 failed" in refused("embed", some / "broken.cif", "--output-path", tmp_path / "y")
    assert "none is no folder" in refused("chains", "--residue-location", tmp_path / "none", "--output-path", tmp_path)
    assert "can't be started" in refused(*words, "--esm3-python", tmp_path / "python")
    assert "is no index" in refused("search", tmp_path, some, "-o", tmp_path / "h.csv")
    assert "Name the chains by one of" in refused("train", "-o", tmp_path / "a.pt")
