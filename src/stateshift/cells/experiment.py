"""The experiment TOML: cell-load's tables unchanged, and a few of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stateshift.errors import InputProblems, StateshiftError, suggestion

TABLES = ("datasets", "training", "zeroshot", "fewshot", "columns", "features", "run")
COLUMN_KEYS = ("perturbation", "cell_type", "batch", "control", "scale")
FEATURE_KEYS = ("source", "table", "fasta", "checkpoint", "missing")
RUN_KEYS = ("model", "overrides", "name", "output_dir")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Experiment:
    """What an experiment TOML says, checked against itself (not yet against the data).

    Parameters
    ----------
    path
        The TOML file.
    datasets
        Dataset name → its files, at least one, as cell-load finds and orders them.
    patterns
        Dataset name → the absolute file, folder or glob behind them.
    training
        Names of the datasets that train.
    zeroshot
        (dataset, cell type) → ``train``, ``val`` or ``test``.
    fewshot
        (dataset, cell type) → split → perturbations.
    columns, features, run
        Our optional tables as written.
    """

    path: Path
    datasets: dict[str, list[Path]]
    patterns: dict[str, str]
    training: list[str]
    zeroshot: dict[tuple[str, str], str]
    fewshot: dict[tuple[str, str], dict[str, list[str]]]
    columns: dict[str, str] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def resolve(self, path: str | Path) -> Path:
        """A path of the TOML: from the current folder as cell-load does, else beside the TOML."""
        path = Path(path).expanduser()
        if path.is_absolute() or path.exists():
            return path
        beside = self.path.parent / path
        return beside if beside.exists() else path


def read_experiment(path: str | Path, columns: Mapping[str, str] | None = None) -> Experiment:
    """Read and check an experiment TOML.

    Parameters
    ----------
    path
        The file.
    columns
        Entries that take the place of those in ``[columns]`` (from a command's flags).

    Raises
    ------
    StateshiftError
        The file is missing or is not TOML.
    InputProblems
        All contradictions at once: unknown tables, keys, datasets and splits, files not found.
    """
    import toml
    from cell_load.config import ExperimentConfig

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such experiment file.")
    try:
        raw = toml.load(path)
        config = ExperimentConfig.from_toml(str(path))
    except (toml.TomlDecodeError, UnicodeDecodeError, IndexError) as error:
        raise StateshiftError(f"{path} is not valid TOML: {error}") from error

    problems = _unknown_keys(raw)
    zeroshot, zero_problems = _zeroshot(config.zeroshot)
    fewshot, few_problems = _fewshot(config.fewshot)
    problems += zero_problems + few_problems
    both = sorted(set(zeroshot) & set(fewshot))
    problems += [f"`{d}.{c}` stands in [zeroshot] and in [fewshot]: choose one." for d, c in both]
    if not config.datasets:
        problems.append('[datasets] is empty: name at least one, as in  mydata = "cells.h5ad".')
    for name, split in config.training.items():
        if split != "train":
            problems.append(f'[training] {name} = "{split}": the only value is "train".')
    for table, names in (
        ("training", config.training),
        ("zeroshot", {d for d, _ in zeroshot}),
        ("fewshot", {d for d, _ in fewshot}),
    ):
        for name in sorted(set(names) - set(config.datasets)):
            problems.append(
                f"[{table}] names dataset `{name}`, absent from [datasets]{suggestion(name, config.datasets)}."
            )

    experiment = Experiment(
        path,
        {},
        {},
        list(config.training),
        zeroshot,
        fewshot,
        {**raw.get("columns", {}), **{k: v for k, v in (columns or {}).items() if v is not None}},
        dict(raw.get("features", {})),
        dict(raw.get("run", {})),
    )
    used = set(config.training) | {d for d, _ in zeroshot} | {d for d, _ in fewshot}
    for name in used & set(config.datasets):
        pattern = str(config.datasets[name])
        experiment.patterns[name], experiment.datasets[name] = dataset_files(pattern, path.parent)
        if not experiment.datasets[name]:
            problems.append(f'[datasets] {name} = "{pattern}": no .h5ad or .h5 file is there.')
    if not used and config.datasets:
        problems.append('No dataset trains: add [training] with  <dataset> = "train".')
    if problems:
        raise InputProblems(str(path), problems)
    return experiment


def dataset_files(pattern: str, folder: Path) -> tuple[str, list[Path]]:
    """The absolute pattern and the files of one ``[datasets]`` entry.

    A file, a folder or a glob with braces, found by cell-load's own function: from the current folder as
    cell-load does, else from the TOML's folder.
    """
    from cell_load.data_modules import PerturbationDataModule

    bare_module = object.__new__(PerturbationDataModule)
    for start in (Path.cwd(), folder.resolve()):
        absolute = str(start / Path(pattern).expanduser())
        files = list(PerturbationDataModule._find_dataset_files(bare_module, Path(absolute)).values())
        if files:
            break
    return absolute, files


def _unknown_keys(raw: dict[str, Any]) -> list[str]:
    problems = [f"[{t}] is no table of an experiment{suggestion(t, TABLES)}." for t in raw if t not in TABLES]
    for table, known in (("columns", COLUMN_KEYS), ("features", FEATURE_KEYS), ("run", RUN_KEYS)):
        content = raw.get(table, {})
        if not isinstance(content, dict):
            problems.append(f"`{table}` has to be a table: [{table}].")
            continue
        problems += [f"[{table}] has no key `{k}`{suggestion(k, known)}." for k in content if k not in known]
    return problems


def _place(table: str, key: str) -> tuple[tuple[str, str] | None, list[str]]:
    dataset, dot, cell_type = key.partition(".")
    if not dot or not cell_type:
        return None, [f'[{table}] "{key}": write "dataset.celltype", quoted, as in "replogle.k562".']
    return (dataset, cell_type), []


def _zeroshot(table: dict[str, Any]) -> tuple[dict[tuple[str, str], str], list[str]]:
    found, problems = {}, []
    for key, split in table.items():
        if isinstance(split, dict):
            inner = next(iter(split), "celltype")
            problems.append(f'[zeroshot] {key}.{inner}: quote the key, "{key}.{inner}" = "test".')
            continue
        place, wrong = _place("zeroshot", key)
        problems += wrong
        if split not in SPLITS:
            problems.append(f'[zeroshot] "{key}" = "{split}": no split has that name{suggestion(str(split), SPLITS)}.')
        elif place:
            found[place] = split
    return found, problems


def _fewshot(table: dict[str, Any]) -> tuple[dict[tuple[str, str], dict[str, list[str]]], list[str]]:
    found, problems = {}, []
    for key, splits in table.items():
        place, wrong = _place("fewshot", key)
        problems += wrong
        if not isinstance(splits, dict) or not all(isinstance(v, list) for v in splits.values()):
            problems.append(f'[fewshot."{key}"] needs lists, as in  test = ["KLF1"].')
            continue
        for split in splits:
            if split not in SPLITS:
                problems.append(f'[fewshot."{key}"] has no split `{split}`{suggestion(split, SPLITS)}.')
        seen: dict[str, str] = {}
        for split, perturbations in splits.items():
            for p in perturbations:
                if seen.setdefault(p, split) != split:
                    problems.append(f'[fewshot."{key}"] puts {p} into {seen[p]} and into {split}.')
        if place:
            found[place] = {s: [str(p) for p in ps] for s, ps in splits.items()}
    return found, problems
