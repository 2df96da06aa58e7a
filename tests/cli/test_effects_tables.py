"""``stateshift effects fit``, ``predict`` and ``score`` as a user types them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from stateshift.feature_table import FeatureTable


def stateshift(*words: object) -> subprocess.CompletedProcess:
    program = [sys.executable, "-c", "from stateshift.cli.main import run; run()"]
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, check=False)


def test_calls_are_fitted_predicted_and_scored_and_a_wrong_label_is_one_sentence(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["pert,gene,label,split"]
    for i in range(40):
        for j in range(10):
            rows.append(
                f"T{i},G{j},{int(rng.random() < (0.8 if (i + j) % 2 else 0.2))},{'test' if i < 12 else 'train'}"
            )
    (tmp_path / "c.csv").write_text("\n".join(rows) + "\n")
    vectors = np.eye(2)[np.arange(40) % 2] + 0.1 * rng.standard_normal((40, 2))
    FeatureTable([f"T{i}" for i in range(40)], vectors, {}).save(tmp_path / "f.pt")
    model, scores = tmp_path / "m", tmp_path / "s.csv"
    done = stateshift(
        "effects",
        "fit",
        tmp_path / "c.csv",
        "--features",
        tmp_path / "f.pt",
        "-o",
        model,
        "--model",
        "neighbours,strength",
    )
    assert done.returncode == 0, done.stderr
    assert "28 perturbations in their contexts × 10 genes" in done.stdout
    (tmp_path / "g.txt").write_text("\n".join(f"T{i}" for i in range(12)) + "\n")
    done = stateshift("effects", "predict", model, "--perturb", tmp_path / "g.txt", "-o", scores)
    assert "120 rows; perturbations in their contexts by route: features 12" in done.stdout, done.stderr
    done = stateshift("effects", "score", scores, tmp_path / "c.csv")
    assert "AUC per gene" in done.stdout, done.stderr
    (tmp_path / "c.csv").write_text("\n".join(rows).replace(",1,", ",3,") + "\n")
    refused = stateshift("effects", "fit", tmp_path / "c.csv", "--features", tmp_path / "f.pt", "-o", tmp_path / "n")
    assert refused.returncode == 2
    assert "`label` holds 3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_tables_are_fused(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        FeatureTable([f"T{i}" for i in range(9)], rng.standard_normal((9, 3))).save(tmp_path / f"{name}.pt")
    done = stateshift(
        "features", "fuse", tmp_path / "a.pt", tmp_path / "b.pt", "-o", tmp_path / "f.pt", "--weights", "3,1"
    )
    assert "a.pt: 9 genes (100%), weight 0.75." in done.stdout, done.stderr
    assert FeatureTable.load(tmp_path / "f.pt").width == 6
