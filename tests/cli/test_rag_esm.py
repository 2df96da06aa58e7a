"""The whole way by commands: data, training, inputs, samples, homologs, embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.proteins import read_fasta


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, ["rag-esm", *words])
        assert done.exit_code == 0, done.output
        return done.output

    return call


def test_from_a_fasta_and_classes_to_samples_and_embeddings(run, tmp_path):
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    records, classes = [], []
    for family in range(6):
        first = rng.choice(letters, 30)
        for member in range(3):
            changed = np.where(rng.random(30) < 0.1 * member, rng.choice(letters, 30), first)
            records.append(f">p{family}{member}\n{''.join(changed)}")
            classes.append(f"p{family}{member}\tf{family}")
    (tmp_path / "p.fasta").write_text("\n".join(records))
    (tmp_path / "c.tsv").write_text("\n".join(classes))
    said = run("data", "p.fasta", "--classes", "c.tsv", "-o", "data", "--val-share", "0.3")
    assert "train clusters: 4" in said
    said = run(
        "train", "base=null", "max_steps=2", "val_every=2", "accumulate=1", "precision=32-true", "--data", "data", "-o", "run"
    )  # fmt: skip
    assert "ppl_0.5" in said
    run("inputs", "clusters", "data/val.jsonl", "-o", "in")
    run(
        "sample", "--checkpoint", "run", "--input", "in/inputs.fasta", "--context", "in/contexts.fasta", "--iterations", "4",
        "--top-k", "10", "--temperature", "0.7", "--error-correction", "all-masked", "--start-error-correction", "2",
        "-o", "out",
    )  # fmt: skip
    assert [len(p.sequence) for p in read_fasta("out/generated.fasta")] == [30, 30]
    assert "2 proteins" in run("report", "out", "--data", "data", "-o", "report.html")
    assert "18 homologs of 18 proteins" in run("homologs", "p.fasta", "--database", "p.fasta", "-o", "h")
    assert all(
        a.id != b.id and a.id[:2] == b.id[:2]
        for a, b in zip(read_fasta("h/proteins.fasta"), read_fasta("h/contexts.fasta"))
    )
    run("embed", "p.fasta", "--checkpoint", "run", "--database", "p.fasta", "-o", "e.npz")
    with np.load("e.npz") as made:
        assert len(made.files) == 18
