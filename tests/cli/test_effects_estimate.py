"""``stateshift effects estimate`` as a user types it."""

from __future__ import annotations

import subprocess
import sys

import anndata as ad


def stateshift(*words: object) -> subprocess.CompletedProcess:
    program = [sys.executable, "-c", "from stateshift.cli.main import run; run()"]
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, check=False)


def test_the_effects_of_a_split_are_written_and_shown(screen, tmp_path):
    output = tmp_path / "effects.h5ad"
    done = stateshift("effects", "estimate", screen.toml, "-o", output, "--split", "train")
    assert done.returncode == 0, done.stderr
    assert f"{output}: 8 effects on 20 genes, scale log1p." in done.stdout
    assert "Effects by context" in done.stdout
    assert "Strongest effects" in done.stdout
    adata = ad.read_h5ad(output)
    assert adata.shape == (8, 20)
    assert set(adata.layers) - {None} == {"log2_fold_change", "standard_error", "shrunk"}


def test_columns_are_named_by_the_flags_of_the_other_commands(screen, tmp_path):
    adata = ad.read_h5ad(screen.cells)
    adata.obs.columns = ["kind", "guide", "lane"]
    adata.write_h5ad(tmp_path / "c.h5ad")
    words = ["effects", "estimate", tmp_path / "c.h5ad", "-o", tmp_path / "e.h5ad"]
    refused = stateshift(*words)
    assert refused.returncode == 2
    assert "no obs column for the perturbation" in refused.stderr
    assert "Traceback" not in refused.stderr
    flags = ["--pert-col", "guide", "--cell-type-key", "kind", "--batch-col", "lane", "--control-pert", "non-targeting"]
    done = stateshift(*words, *flags)
    assert done.returncode == 0, done.stderr
    assert ad.read_h5ad(tmp_path / "e.h5ad").obs["n_unmatched"].tolist() == [0] * 15
