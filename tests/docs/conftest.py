"""What the pages of docs/ speak of, made small: a screen of three cell types under the names that the pages use."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

TARGETS = ("TP53", "KLF1", "GATA1", "STAT1", "MYC", "EGR1", "BAK1", "CBL", "IRF1", "KLF1+GATA1", "TP53+MYC")
NEW = ("ZNF706", "VIRMA")
CELL_TYPES = ("K562", "HEPG2", "RPE1")
GENES = [*(t for t in TARGETS if "+" not in t), *(f"GENE{i}" for i in range(231))]
ASSETS = Path(__file__).resolve().parents[1] / "assets" / "transition"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
SMALL = [
    *("model.hidden=8", "model.layers=1", "model.heads=2", "model.ffn=16", "model.set_size=8"),
    *("model.encoder_layers=1", "model.decoder_layers=1", "data.batch_size=2"),
    *("training.max_steps=2", "training.val_every=1"),
]
"""Settings of a training that takes a moment."""
SPLIT = """
[training]
screen = "train"

[zeroshot]
"screen.RPE1" = "test"

[fewshot."screen.K562"]
val = ["STAT1", "MYC"]
test = ["TP53", "KLF1"]

[fewshot."screen.HEPG2"]
val = ["STAT1", "MYC"]
test = ["TP53", "KLF1"]
"""


def run_table(overrides: list[str]) -> str:
    return f'\n[run]\nmodel = "state_tiny"\noverrides = {overrides}\n'.replace("'", '"')


RUN = run_table(SMALL)


def write_raw(path: Path) -> None:
    """Counts of 34 cells a pair and 40 controls a cell type; a target is down to a tenth, and moves thirty genes."""
    import anndata as ad
    import pandas as pd
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    rate = rng.gamma(4, 2.5, len(GENES)) + 2
    rate[:10] = 25
    moved = {t: np.exp(rng.normal(0, 0.7, len(GENES)) * (rng.random(len(GENES)) < 0.12)) for t in TARGETS}
    blocks, rows = [], []
    for c, cell_type in enumerate(CELL_TYPES):
        of_type = rate * np.exp(0.2 * np.sin(np.arange(len(GENES)) + c))
        for target in ("non-targeting", *TARGETS):
            factor = moved.get(target, np.ones(len(GENES))).copy()
            for gene in set(target.split("+")) & set(GENES):
                factor[GENES.index(gene)] = 0.05
            n = 40 if target == "non-targeting" else 34
            blocks.append(rng.poisson(of_type * factor, (n, len(GENES))))
            rows += [(target, cell_type, f"b{i % 2}") for i in range(n)]
    obs = pd.DataFrame(rows, columns=["target_gene", "cell_type", "batch"], dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    cells = csr_matrix(np.concatenate(blocks).astype(np.float32))
    ad.AnnData(cells, obs, pd.DataFrame(index=GENES)).write_h5ad(path)


def write_tables(folder: Path) -> None:
    """Vectors, proteins, gene sets and calls of the targets, and lists of names."""
    import pandas as pd

    from stateshift.feature_table import FeatureTable
    from stateshift.features import create_features

    rng = np.random.default_rng(1)
    singles = [t for t in TARGETS if "+" not in t]
    for name in ("esm2", "genept", "go", "symbols", "fused"):
        vectors = rng.standard_normal((len(singles), 6)).astype(np.float32)
        parts = [
            {"source": "gene_sets", "columns": [0, 3], "lacks": []},
            {"source": "symbol", "columns": [3, 6], "lacks": []},
        ]
        about = {"source": "fusion", "parts": parts} if name == "fused" else {"source": "table"}
        FeatureTable(singles, vectors, about).save(folder / f"{name}.pt")
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    proteins = {gene: "M" + "".join(rng.choice(letters, 40)) for gene in (*singles, *NEW)}
    ids = {gene: f"sp|P{i}|{gene}_HUMAN" for i, gene in enumerate(proteins)} | {"TP53": "sp|P04637|P53_HUMAN"}
    (folder / "human.fasta").write_text("".join(f">{ids[g]} x GN={g}\n{s}\n" for g, s in proteins.items()))
    (folder / "targets.txt").write_text("\n".join(singles) + "\n")
    table = folder / "ESM2_pert_features.pt"
    create_features(gene_list=folder / "targets.txt", fasta=folder / "human.fasta", output=table)
    sets = {f"SET{i}": rng.choice(singles, 4, replace=False) for i in range(12)}
    (folder / "go.gmt").write_text("".join(f"{name}\tx\t" + "\t".join(genes) + "\n" for name, genes in sets.items()))
    calls = [
        (t, gene, int(rng.random() < 0.3), "test" if t in ("TP53", "KLF1") else "train")
        for t in singles
        for gene in GENES[:9]
    ]
    pd.DataFrame(calls, columns=["perturbation", "gene", "label", "split"]).to_csv(folder / "calls.csv", index=False)
    (folder / "genes.txt").write_text("TP53\nKLF1\nGATA1\n")
    (folder / "my_genes.txt").write_text("TP53\nKLF1\n")
    (folder / "new_genes.txt").write_text("\n".join(NEW) + "\n")


def write_experiments(folder: Path) -> None:
    """The experiments that pages name, all on the same cells."""
    datasets = '[datasets]\nscreen = "screen.h5ad"\n'
    table = '\n[features]\ntable = "ESM2_pert_features.pt"\n'
    proteins = '\n[features]\nsource = "esm2"\nfasta = "human.fasta"\n'
    for name in ("starter", "arc"):
        (folder / f"{name}.toml").write_text(datasets + SPLIT + table + RUN)
    # what goes on from a trained run has its sizes
    (folder / "second.toml").write_text(datasets + SPLIT + table + run_table(SMALL[6:]))
    (folder / "esm_genetic_example.toml").write_text(datasets + SPLIT + proteins + RUN)


def write_arc_state(folder: Path) -> None:
    """A run of arc-state, as its own code left it, with the cells that it was tried on."""
    import anndata as ad
    import pandas as pd

    shutil.copytree(ASSETS / "arc_run", folder / "arc_run")
    with np.load(ASSETS / "arc_run.npz", allow_pickle=False) as golden:
        obs = pd.DataFrame({name: golden[name] for name in ("cell_type", "target_gene", "batch")}, dtype="category")
        obs.index = [f"cell{i}" for i in range(len(obs))]
        var = pd.DataFrame(index=[f"GENE{i}" for i in range(golden["X"].shape[1])])
        ad.AnnData(golden["X"], obs, var, uns={"log1p": {}}).write_h5ad(folder / "arc_controls.h5ad")
    (folder / "arc_genes.txt").write_text("G1\nG3\n")


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with everything that the pages take for granted."""
    import anndata as ad

    from stateshift.cells.prepare import prepare_cells
    from stateshift.prediction import predict
    from stateshift.training import train

    folder = tmp_path_factory.mktemp("world")
    write_raw(folder / "raw.h5ad")
    write_tables(folder)
    write_experiments(folder)
    write_arc_state(folder)
    prepare_cells(folder / "raw.h5ad", folder / "screen.h5ad", experiment=folder / "starter.toml")
    cells = ad.read_h5ad(folder / "screen.h5ad")
    cells.write_h5ad(folder / "real.h5ad")
    controls = cells[cells.obs["target_gene"] == "non-targeting"].copy()
    controls.write_h5ad(folder / "controls.h5ad")
    controls[controls.obs["cell_type"] == "RPE1"].write_h5ad(folder / "new_type.h5ad")
    run = train(folder / "starter.toml", output_dir=folder / "runs", name="starter_state_tiny")
    predict(run, cells=folder / "real.h5ad", split="test", output=folder / "predicted.h5ad")
    shutil.copy(folder / "predicted.h5ad", folder / "predicted_test.h5ad")
    return folder


@pytest.fixture(scope="module")
def executed(request, tmp_path_factory):
    """The notebook that a test's module names, run from the first cell to the last in an empty folder, which stays empty."""
    notebook = nbformat.read(NOTEBOOKS / request.module.NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert list(folder.iterdir()) == []
    return notebook


@pytest.fixture
def said(executed):
    """All text that the cell printed or showed whose code holds some words."""

    def of(words):
        cell = next(c for c in executed.cells if c.cell_type == "code" and words in c.source)
        return "".join(output.get("text", "") or output["data"].get("text/plain", "") for output in cell.outputs)

    return of
