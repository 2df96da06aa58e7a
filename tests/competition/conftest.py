"""Stand-ins of what the seasons hand out: the same files, layouts and columns, a few hundred cells of 120 genes."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge.seasons import competition_folder

LINES = {"competition_train": "ARC_H1", "k562_gwps": "k562_gwps", "rpe1": "rpe1", "jurkat": "jurkat", "k562": "k562",
         "hepg2": "hepg2"}  # fmt: skip
N_GENES = 120
TO_PREDICT = ("SH3BP4", "ZNF581", "ANXA6", "PACSIN3")
"""Of the validation set's targets."""


def held_out(season: str) -> list[str]:
    """The targets that the season's TOMLs hold out of a line."""
    tables = tomllib.loads((competition_folder() / season / "strong.toml").read_text())["fewshot"]
    return sorted({gene for lists in tables.values() for genes in lists.values() for gene in genes})


class Makings:
    """Genes, targets, and counts of any line's cells, from a seed."""

    to_predict = TO_PREDICT

    def __init__(self) -> None:
        self.trained = [*held_out("2025"), "AKT2", "BRD9", "CASP3", "MED1", "STAT1", "TMSB4X", "USP22", "ZNF714"]
        named = [*self.trained, *TO_PREDICT]
        self.genes = [*named, *(f"GENE{i}" for i in range(N_GENES - len(named)))]
        rng = np.random.default_rng(0)
        self.directions = {gene: rng.normal(0, 1.0, N_GENES) * (rng.random(N_GENES) < 0.3) for gene in named}
        self.vectors = {gene: np.r_[rng.normal(size=8), effect[:8]] for gene, effect in self.directions.items()}

    def counts(self, line: str, labels: np.ndarray) -> np.ndarray:
        """Poisson counts (n, G), some 900 a cell."""
        rng = np.random.default_rng([len(line), *line.encode()])
        rates = np.random.default_rng(1).gamma(0.5, 2.0, N_GENES) * rng.lognormal(0, 0.3, N_GENES)
        rates /= rates.sum()
        effects = np.stack([self.directions.get(label, np.zeros(N_GENES)) for label in labels])
        depths = rng.lognormal(np.log(900), 0.2, len(labels))
        return rng.poisson(depths[:, None] * rates * np.exp(effects)).astype(np.float32)


@pytest.fixture(scope="session")
def makings() -> Makings:
    """The `Makings` of both seasons."""
    return Makings()


def labels_of(targets: list[str], each: int, controls: int) -> np.ndarray:
    """A label a cell, targets and controls mixed."""
    labels = np.r_[np.repeat(targets, each), np.repeat("non-targeting", controls)].astype(object)
    return labels[np.random.default_rng(len(labels)).permutation(len(labels))]


def logged(counts: np.ndarray) -> np.ndarray:
    """Log1p of counts brought to the median total, as scanpy leaves them when it is told no total."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts / totals * np.median(totals)).astype(np.float32)


def make_pack(folder: Path, makings: Makings) -> None:
    """``competition_support_set`` of season 2025.

    The training cells of H1 are CSR with the mark ``uns["log1p"]``, and have a ``batch`` beside ``batch_var``. The other
    lines are dense, without the mark, brought to totals of their own, and name their targets twice.
    """
    pack = folder / "competition_support_set"
    pack.mkdir()
    for name, line in LINES.items():
        h1 = line == "ARC_H1"
        each = 20 if name in ("competition_train", "rpe1") else 6  # of these two, targets are scored
        labels = labels_of(makings.trained if h1 else makings.trained[::4], each, 5 * each)
        batch = [f"{line}_{i % 3}" for i in range(len(labels))]
        obs = {"target_gene": labels, "batch_var": batch, "cell_type": line}
        obs |= {"guide_id": labels, "batch": batch} if h1 else {"gem_group": np.arange(len(labels)) % 3, "gene": labels}
        write(pack / f"{name}.h5", logged(makings.counts(line, labels)), obs, makings.genes, marked=h1, sparse=h1)
    labels = labels_of(list(TO_PREDICT), 10, 60)
    obs = {"target_gene": labels, "batch_var": "ARC_H1_0", "cell_type": "ARC_H1"}
    controls = np.repeat("non-targeting", len(labels))
    write(
        pack / "competition_val_template.h5ad",
        logged(makings.counts("ARC_H1", controls)),
        obs,
        makings.genes,
        marked=True,
    )
    (pack / "gene_names.csv").write_text("\n".join(makings.genes) + "\n")
    write_vectors(pack / "ESM2_pert_features.pt", makings)
    (pack / "starter.toml").write_text(
        '[datasets]\nreplogle_h1 = "competition_support_set/{competition_train,k562_gwps,rpe1,jurkat,k562,hepg2}.h5"\n\n'
        '[training]\nreplogle_h1 = "train"\n\n[zeroshot]\n"replogle_h1.hepg2" = "test"\n\n[fewshot]\n'
    )


def write(
    path: Path, X: np.ndarray, obs: dict, genes: list[str], *, marked: bool = False, sparse: bool = False
) -> None:
    """Cells as an h5ad, whatever the file's name ends in."""
    table = pd.DataFrame(obs, index=[f"{path.stem}_{i}" for i in range(len(X))])
    for column in table.columns.difference(["gem_group"]):
        table[column] = table[column].astype("category")
    adata = ad.AnnData(csr_matrix(X) if sparse else X, table, pd.DataFrame(index=genes))
    adata.write_h5ad(path)
    if marked:
        with h5py.File(path, "a") as file:
            file.require_group("uns").create_group("log1p").attrs.update(
                {"encoding-type": "dict", "encoding-version": "0.1.0"}
            )


def write_vectors(path: Path, makings: Makings) -> None:
    """A plain dict gene → vector, as the pack's table is, of more genes than are perturbed."""
    import torch

    genes = {gene: makings.vectors.get(gene, np.ones(16)) for gene in makings.genes}
    torch.save({gene: torch.tensor(vector, dtype=torch.float32) for gene, vector in genes.items()}, path)


def make_bundle(folder: Path, makings: Makings) -> None:
    """``bundle`` of season 2026, and a prediction made elsewhere, ``predicted.h5ad``.

    Control cells of three contexts as counts, with two genes more than the screens measure.
    """
    bundle = folder / "bundle"
    bundle.mkdir()
    contexts = np.repeat(["A", "B", "C"], 40)
    counts = np.concatenate([makings.counts(c, np.repeat("non-targeting", 40)) for c in "ABC"])
    obs = {"context": contexts, "target_gene": "non-targeting", "guide_id": "ntc_1"}
    more = np.random.default_rng(2).poisson(2, (len(counts), 2)).astype(np.float32)
    write(bundle / "controls.h5ad", np.c_[counts, more], obs, [*makings.genes, "NEW1", "NEW2"], sparse=True)
    labels = np.tile(np.repeat(["non-targeting", *TO_PREDICT], [40, *[12] * len(TO_PREDICT)]), 3)
    counts = np.concatenate([makings.counts(c, labels[: len(labels) // 3]) for c in "ABC"])
    more = np.random.default_rng(3).poisson(2, (len(counts), 2)).astype(np.float32)
    obs = {"context": np.repeat(["A", "B", "C"], len(labels) // 3), "target_gene": labels}
    write(folder / "predicted.h5ad", np.c_[counts, more], obs, [*makings.genes, "NEW1", "NEW2"], sparse=True)
    (bundle / "gene_names.csv").write_text("\n".join(["gene_name", *makings.genes, "NEW1", "NEW2"]) + "\n")
    (bundle / "pert_counts.csv").write_text("\n".join(["target_gene", *TO_PREDICT]) + "\n")
    (bundle / "manifest.json").write_text(json.dumps({"contexts": ["A", "B", "C"], "panel_id": "val"}))


def make_season(folder: Path, season: str, makings: Makings, changes: dict[str, str]) -> Path:
    """The seasons' folders copied, one's rules with other numbers, and what that season hands out; its folder."""
    for name in ("2025", "2026"):
        shutil.copytree(competition_folder() / name, folder / "competition" / name)
    rules = folder / "competition" / season / "rules.toml"
    text = rules.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    rules.write_text(text)
    make_pack(rules.parent, makings)
    if season == "2026":
        make_bundle(rules.parent, makings)
    return rules.parent


@pytest.fixture(scope="session")
def season_maker() -> Callable[..., Path]:
    """`make_season`."""
    return make_season
