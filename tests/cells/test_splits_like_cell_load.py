"""Any experiment: ours refuses it and says why, or its splits are cell-load's, index for index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import toml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stateshift.cells.experiment import parse_experiment
from stateshift.cells.splits import find_splits
from stateshift.cells.survey import survey_files

CONTROL = "non-targeting"
DATASETS = ["rep", "rep2", "re"]
CELL_TYPES = ["K562", "T.cell 1", "CD4+ T", "CD4- T", "H1"]
PERTURBATIONS = ["A", "B", "C", "A+B", "B+C", "HLA-A", "E.2"]
LAYOUTS = {
    "file": ("{name}.h5ad", 1),
    "folder": ("{name}", 3),
    "glob": ("{name}/part*.h5ad", 3),
    "braces": ("{name}/part{{0,1}}.h5ad", 2),
    "braces and glob": ("{name}/{{part,other}}*.h5ad", 3),
}


@dataclass
class Made:
    """An experiment to write: files (dataset, name) → [(cell type, perturbation, cells)], and its TOML."""

    files: dict[tuple[str, str], list[tuple[str, str, int]]] = field(default_factory=dict)
    tables: dict[str, dict] = field(default_factory=lambda: {"datasets": {}, "training": {}})
    mistake: str | None = None


@st.composite
def experiments(draw) -> Made:
    made = Made()
    names = draw(st.lists(st.sampled_from(DATASETS), min_size=1, max_size=3, unique=True))
    for i, name in enumerate(names):
        pattern, most_files = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
        made.tables["datasets"][name] = pattern.format(name=name)
        n_files = 2 if "{0,1}" in pattern.format(name=name) else draw(st.integers(1, most_files))
        for number in range(n_files):
            path = pattern.format(name=name) if most_files == 1 else f"{name}/part{number}.h5ad"
            made.files[name, path] = draw(one_file())
        if i == 0 or draw(st.booleans()):
            made.tables["training"][name] = "train"
        draw_roles(draw, made, name)
    draw_mistake(draw, made, names)
    return made


@st.composite
def one_file(draw) -> list[tuple[str, str, int]]:
    rows = []
    for cell_type in draw(st.lists(st.sampled_from(CELL_TYPES), min_size=1, max_size=3, unique=True)):
        rows.append((cell_type, CONTROL, draw(st.integers(1, 3))))
        perturbed = draw(st.lists(st.sampled_from(PERTURBATIONS), min_size=1, max_size=5, unique=True))
        rows += [(cell_type, p, draw(st.integers(1, 3))) for p in perturbed]
    return rows


def draw_roles(draw, made: Made, name: str) -> None:
    """Zero-shot and few-shot places of a dataset, of what its files hold."""
    held: dict[str, set[str]] = {}
    for (dataset, _), rows in made.files.items():
        for cell_type, perturbation, _ in rows:
            if dataset == name and perturbation != CONTROL:
                held.setdefault(cell_type, set()).add(perturbation)
    for cell_type in sorted(held):
        role = draw(st.sampled_from(["none", "none", "zeroshot", "fewshot", "fewshot"]))
        if role == "zeroshot":
            split = draw(st.sampled_from(["train", "val", "test", "test"]))
            made.tables.setdefault("zeroshot", {})[f"{name}.{cell_type}"] = split
        elif role == "fewshot":
            lists: dict[str, list[str]] = {}
            for perturbation in sorted(held[cell_type]):
                split = draw(st.sampled_from(["", "", "train", "val", "test"]))
                if split:
                    lists.setdefault(split, []).append(perturbation)
            made.tables.setdefault("fewshot", {})[f"{name}.{cell_type}"] = lists


def draw_mistake(draw, made: Made, names: list[str]) -> None:
    """Now and then something that cell-load takes without a word."""
    made.mistake = draw(st.sampled_from([None] * 20 + ["cell type", "gene", "twice", "both tables"]))
    if draw(st.integers(0, 7)) == 7:
        made.tables["datasets"]["spare"] = "rep*"
    place = f"{names[0]}.{made.files[next(iter(made.files))][0][0]}"
    if made.mistake == "cell type":
        made.tables.setdefault("zeroshot", {})[f"{names[0]}.K652"] = "test"
    elif made.mistake == "both tables":
        made.tables.setdefault("zeroshot", {})[place] = "test"
        made.tables.setdefault("fewshot", {})[place] = {}
    elif made.mistake is not None:
        made.tables.get("zeroshot", {}).pop(place, None)
        lists = {"gene": {"test": ["AA"]}, "twice": {"val": ["A"], "test": ["A"]}}
        made.tables.setdefault("fewshot", {})[place] = lists[made.mistake]


def write(made: Made, folder: Path, order: np.random.Generator) -> Path:
    for (_, name), rows in made.files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        obs = pd.DataFrame([row[:2] for row in rows for _ in range(row[2])], columns=["cell_type", "gene"])
        obs = obs.iloc[order.permutation(len(obs))].reset_index(drop=True)
        obs.index = [f"{name}-{i}" for i in range(len(obs))]
        obs["cell_type"] = pd.Categorical(obs["cell_type"], order.permutation([*CELL_TYPES, "an unused one"]))
        obs["gene"] = pd.Categorical(obs["gene"], order.permutation([*PERTURBATIONS, CONTROL, "AA"]))
        obs["batch"] = pd.Categorical(["b"] * len(obs))
        values = np.ones((len(obs), 2), np.float32)
        adata = ad.AnnData(values, obs, pd.DataFrame(index=["G1", "G2"]))
        with ad.settings.override(remove_unused_categories=False):
            adata.write_h5ad(path)
    tables = made.tables | {"datasets": {n: str(folder / p) for n, p in made.tables["datasets"].items()}}
    toml_path = folder / "made.toml"
    toml_path.write_text(toml.dumps(tables))
    return toml_path


def our_splits(path: Path) -> tuple[dict[tuple[str, str, str], list[int]], list[str]]:
    """(split, dataset, file) → its perturbed cells; and the problems."""
    experiment, problems = parse_experiment(path)
    survey = survey_files(experiment)
    split, more = find_splits(experiment, survey.labels())
    found, start = {}, 0
    for file in survey.files:
        here = split[start : start + len(file.obs)]
        start += len(file.obs)
        for name in {"train", "val", "test"} & set(here):
            found[name, file.obs["dataset"].iloc[0], str(file.path)] = np.flatnonzero(here == name).tolist()
    return found, problems + survey.problems + more


def cell_loads_splits(path: Path) -> dict[tuple[str, str, str], list[int]]:
    from cell_load.data_modules import PerturbationDataModule

    module = PerturbationDataModule(
        str(path), pert_col="gene", batch_col="batch", cell_type_key="cell_type", control_pert=CONTROL,
        should_yield_control_cells=False, num_workers=0,
    )  # fmt: skip
    module.setup()
    found: dict[tuple[str, str, str], list[int]] = {}
    for split in ("train", "val", "test"):
        for subset in getattr(module, f"{split}_datasets"):
            key = (split, subset.dataset.name, str(subset.dataset.h5_path))
            found[key] = sorted([*found.get(key, []), *map(int, subset.indices)])
    return {key: indices for key, indices in found.items() if indices}


def test_splits_are_cell_loads_or_refused(tmp_path_factory):
    seen = Counter()

    @settings(max_examples=45, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(experiments(), st.integers(0, 1000))
    def every_experiment(made: Made, seed: int) -> None:
        path = write(made, tmp_path_factory.mktemp("experiment"), np.random.default_rng(seed))
        ours, problems = our_splits(path)
        seen["refused" if problems else "accepted"] += 1
        if problems:
            return
        assert made.mistake is None
        assert ours == cell_loads_splits(path)
        seen.update({str(name) for name, _, _ in ours} - {"train"})
        seen["few-shot"] += any(made.tables.get("fewshot", {}).values())
        seen["several files"] += len(made.files) > 1
        seen["several datasets"] += len(made.tables["datasets"]) > 1
        seen["untrained few-shot"] += any(
            key.split(".")[0] not in made.tables["training"] for key in made.tables.get("fewshot", {})
        )

    every_experiment()
    assert seen["accepted"] > seen["refused"] > 0, seen
    for case in ("val", "test", "few-shot", "several files", "several datasets", "untrained few-shot"):
        assert seen[case] >= 3, (case, seen)
