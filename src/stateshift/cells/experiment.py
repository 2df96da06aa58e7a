"""The experiment TOML: cell-load's tables unchanged, and a few of ours."""

from __future__ import annotations

import contextlib
import glob
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stateshift.cells.matrix.stored import is_zarr
from stateshift.errors import InputProblems, StateshiftError, first_line, some, suggestion
from stateshift.proteins.embedding.pooling import OF_GENES, check_pooling
from stateshift.proteins.esm2.models import check_layer

TABLES = ("datasets", "training", "zeroshot", "fewshot", "columns", "features", "run")
COLUMN_KEYS = ("perturbation", "cell_type", "batch", "control", "scale", "embedding", "genes")
FEATURE_KEYS = (
    "source",
    "table",
    "lookup",
    "transductive",
    "fasta",
    "checkpoint",
    "layer",
    "pooling",
    "aliases",
    "missing",
)
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
    beside_only
        Whether relative paths start from the TOML's folder alone.
    spare
        Datasets that no table uses; they are left out, as cell-load leaves them out.
    """

    path: Path
    datasets: dict[str, list[Path]]
    patterns: dict[str, str]
    training: list[str]
    zeroshot: dict[tuple[str, str], str]
    fewshot: dict[tuple[str, str], dict[str, list[str]]]
    columns: dict[str, str] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    beside_only: bool = False
    spare: list[str] = field(default_factory=list)

    def resolve(self, path: str | Path) -> Path:
        """A path of the TOML: from the current folder as cell-load does, else beside the TOML; `found_twice` tells of both."""
        path = Path(path).expanduser()
        if path.is_absolute() or (path.exists() and not self.beside_only):
            return path
        beside = self.path.parent / path
        return beside if beside.exists() else path

    def found_twice(self) -> list[str]:
        """Problems with files of ``[features]`` and ``[columns]`` that lie both in the current folder and beside the TOML."""
        files = {
            ("features", key): self.features.get(key) for key in ("table", "lookup", "fasta", "checkpoint", "aliases")
        }
        problems = []
        for (table, key), name in {**files, ("columns", "genes"): self.columns.get("genes")}.items():
            if not isinstance(name, str) or self.beside_only:
                continue
            here, beside = Path.cwd() / Path(name).expanduser(), self.path.resolve().parent / Path(name).expanduser()
            if here.exists() and beside.exists() and not here.samefile(beside):
                problems.append(
                    f'[{table}] {key} = "{name}": there is one in {here.parent} and another in {beside.parent}: write the '
                    "whole path of what is meant."
                )
        return problems


def read_experiment(
    path: str | Path, columns: Mapping[str, str] | None = None, *, beside_only: bool = False
) -> Experiment:
    """Read and check an experiment TOML.

    Parameters
    ----------
    path
        The file.
    columns
        Entries that take the place of those in ``[columns]`` (from a command's flags).
    beside_only
        Look relative paths up from the TOML's folder alone, as for the TOML that a run keeps.

    Raises
    ------
    StateshiftError
        The file is missing or is not TOML.
    InputProblems
        All contradictions at once: unknown tables, keys, datasets and splits, files not found.
    """
    experiment, problems = parse_experiment(path, columns, beside_only=beside_only)
    if problems:
        raise InputProblems(str(path), problems)
    return experiment


def parse_experiment(
    path: str | Path, columns: Mapping[str, str] | None = None, *, beside_only: bool = False
) -> tuple[Experiment, list[str]]:
    """What `read_experiment` reads, and its problems in place of an error for them."""
    import toml
    from cell_load.config import ExperimentConfig

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such experiment file.")
    try:
        raw = toml.load(path)
        config = ExperimentConfig.from_toml(str(path))
    except (ValueError, IndexError, TypeError, RecursionError) as error:
        raise StateshiftError(_why_no_toml(path, error)) from error
    not_tables = [name for name in raw if name in TABLES and not isinstance(raw[name], dict)]
    if not_tables:
        raise InputProblems(str(path), [f"`{name}` has to be a table: [{name}]." for name in not_tables])

    problems = _unknown_keys(raw)
    zeroshot, zero_problems = _zeroshot(config.zeroshot)
    fewshot, few_problems = _fewshot(config.fewshot)
    problems += zero_problems + few_problems + _datasets(config.datasets, config.training, zeroshot, fewshot)
    used = {*config.training, *(d for d, _ in zeroshot), *(d for d, _ in fewshot)}
    experiment = Experiment(
        path,
        {},
        {},
        list(config.training),
        zeroshot,
        fewshot,
        {**_readable(raw, "columns"), **{k: v for k, v in (columns or {}).items() if v is not None}},
        _readable(raw, "features"),
        _readable(raw, "run"),
        beside_only,
        [name for name in config.datasets if name not in used],
    )
    problems += experiment.found_twice()
    for name, pattern in config.datasets.items():
        absolute, files, wrong = dataset_files(str(pattern), path.parent, beside_only)
        problems += [f'[datasets] {name} = "{pattern}": {w}' for w in wrong]
        if name in used and files:
            experiment.patterns[name], experiment.datasets[name] = absolute, files
    return experiment, problems


def dataset_files(pattern: str, folder: Path, beside_only: bool = False) -> tuple[str, list[Path], list[str]]:
    """The absolute pattern, the files and what is wrong with one ``[datasets]`` entry.

    A file, a folder or a glob with braces, found by cell-load's own function: from the current folder as
    cell-load does, else from the TOML's folder. cell-load keeps one file of each stem, so files that share
    a stem are a problem. Zarr stores, which cell-load doesn't read, are found where the pattern names them
    or where a folder holds nothing else.
    """
    starts = [folder.resolve()] if beside_only else list(dict.fromkeys([Path.cwd(), folder.resolve()]))
    from_each = [_found_from(start, pattern) for start in starts]
    absolute, literal, expanded, files = next((found for found in from_each if found[-1]), from_each[-1])
    if not files:
        unread = " ($… is not replaced by a variable of the environment: write the path out)" if "$" in pattern else ""
        return absolute, [], [f"no .h5ad or .h5 file and no .zarr store is there{unread}."]
    named = [e for e in expanded if not glob.has_magic(e.removeprefix(glob.escape(literal)))]
    wrong = [f"{Path(e).name} is not there." for e in named if not glob.glob(e)]
    matched = [Path(m) for e in expanded for m in glob.glob(e)]
    hidden = sorted({str(m) for m in matched if m.is_file()} - {str(f) for f in files})
    if hidden:
        wrong.append(f"{some(hidden)} has the file name of another match and would be left out: rename it.")
    if len({frozenset(f.resolve() for f in of) for *_, of in from_each if of}) > 1:
        wrong.append(f"there is one in {starts[0]} and another in {starts[1]}: write the whole path of what is meant.")
    return absolute, files, wrong


def _found_from(start: Path, pattern: str) -> tuple[str, str, list[str], list[Path]]:
    """The absolute pattern, what of it is no pattern, its braces written out, and the files that it finds."""
    from cell_load.data_modules import PerturbationDataModule

    bare_module = object.__new__(PerturbationDataModule)
    absolute = str(start / Path(pattern).expanduser())
    # brackets in the name of a folder that is there are letters, and not a pattern
    literal = absolute if Path(absolute).exists() else str(start)
    sought = absolute.replace(literal, glob.escape(literal), 1)
    expanded = bare_module._expand_braces(sought)
    files = _zarr_stores(expanded) or PerturbationDataModule._find_dataset_files(bare_module, Path(sought)).values()
    return absolute, literal, expanded, list(files)


def _zarr_stores(patterns: list[str]) -> list[Path]:
    """Zarr stores that patterns name, or that lie in the folders they name."""
    matches = [Path(m) for pattern in patterns for m in sorted(glob.glob(pattern))]
    stores = [m for m in matches if is_zarr(m)]
    if not stores and not any(m.is_file() or any(m.glob("*.h5*")) for m in matches):
        stores = [s for m in matches for s in sorted(m.glob("*")) if is_zarr(s)]
    return stores


def _datasets(
    datasets: dict[str, Any],
    training: dict[str, Any],
    zeroshot: dict[tuple[str, str], str],
    fewshot: dict[tuple[str, str], dict[str, list[str]]],
) -> list[str]:
    """Problems between the tables."""
    problems = [
        f"`{d}.{c}` stands in [zeroshot] and in [fewshot]: choose one." for d, c in sorted(set(zeroshot) & set(fewshot))
    ]
    if not datasets:
        problems.append('[datasets] is empty: name at least one, as in  mydata = "cells.h5ad".')
    problems += [
        f'[training] {name} = "{s}": the only value is "train".' for name, s in training.items() if s != "train"
    ]
    named = {"training": set(training), "zeroshot": {d for d, _ in zeroshot}, "fewshot": {d for d, _ in fewshot}}
    for table, names in named.items():
        for name in sorted(names - set(datasets)):
            problems.append(f"[{table}] names dataset `{name}`, absent from [datasets]{suggestion(name, datasets)}.")
    if datasets and not any(named.values()):
        return [*problems, 'No dataset trains: add [training] with  <dataset> = "train".']
    return problems


def _unknown_keys(raw: dict[str, Any]) -> list[str]:
    problems = [f"[{t}] is no table of an experiment{suggestion(t, TABLES)}." for t in raw if t not in TABLES]
    for table, known in (("columns", COLUMN_KEYS), ("features", FEATURE_KEYS), ("run", RUN_KEYS)):
        for key, value in raw.get(table, {}).items():
            if key not in known:
                problems.append(f"[{table}] has no key `{key}`{suggestion(key, known)}.")
            elif key == "overrides":
                if not _is_of_its_kind(key, value):
                    problems.append('[run] overrides needs a list of texts, as in  ["training.max_steps=500"].')
                elif strange := [v for v in value if v.lstrip("+~").startswith("hydra") or "${" in v]:
                    # a file from elsewhere could choose what Hydra calls, or write down what the environment holds
                    problems.append(
                        f"[run] overrides holds `{strange[0]}`: Hydra's own settings and ${{…}} go on the command line."
                    )
            elif key == "layer":
                if not _is_of_its_kind(key, value):
                    problems.append(f"[features] layer = {value!r}: a whole number is needed, as in  layer = -1.")
            elif key == "transductive":
                if not _is_of_its_kind(key, value):
                    problems.append(f"[features] transductive = {value!r}: true or false is needed.")
            elif not _is_of_its_kind(key, value):
                shown = value if isinstance(value, int | float) and not isinstance(value, bool) else "…"
                problems.append(f'[{table}] {key} = {value}: a text is needed, as in  {key} = "{shown}".')
    features = raw.get("features", {})
    if features.get("source", "esm2") == "esm2":
        problems += _esm2_problems(features)
    if "table" in features and (more := [key for key in ("source", "lookup") if key in features]):
        problems.append(
            f"[features] names a table and {' and '.join(f'`{key}`' for key in more)}, which makes one: leave either out."
        )
    for name, value in raw.get("datasets", {}).items():
        places = [key for table in ("zeroshot", "fewshot") for key in raw.get(table, {})]
        if "." in name and any(place.startswith(f"{name}.") for place in places):
            problems.append(
                f'[datasets] "{name}": a name without dots is needed, for "dataset.celltype" ends it at the first.'
            )
        if not isinstance(value, str):
            problems.append(f"[datasets] {name} = {value}: a file, a folder or a glob is needed, as a text.")
    return problems


def _is_of_its_kind(key: str, value: Any) -> bool:
    """Whether a value of our tables is what its key holds."""
    if key == "overrides":
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    kind = {"layer": int, "transductive": bool}.get(key, str)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _readable(raw: dict[str, Any], table: str) -> dict[str, Any]:
    """One of our tables without the values of another kind, which `_unknown_keys` tells."""
    return {key: value for key, value in raw.get(table, {}).items() if _is_of_its_kind(key, value)}


def _why_no_toml(path: Path, error: Exception) -> str:
    """A sentence on a text that is no TOML, by the words of the standard's own reader, with the line."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return f"{path} is no text in UTF-8: save it in that encoding."
    if text.startswith("\ufeff"):
        return f"{path} begins with a byte order mark, which TOML doesn't have: save it as UTF-8 without one (BOM)."
    told = first_line(error)
    with contextlib.suppress(RecursionError):
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as standard:
            told = first_line(standard)
    number = re.search(r"line (\d+)", told)
    line = text.splitlines()[int(number[1]) - 1].strip()[:80] if number else ""
    way = ""
    if set(line) & set("“”„‘’"):
        way = ': typographic quotes are letters here, write " in their place'
    elif told.startswith("Cannot overwrite"):
        way = ": the key is there twice"
    elif "Invalid value" in told:
        way = ": texts stand in quotes, true and false are small"
    return f"{path} is not valid TOML: {told}{f', `{line}`' if line else ''}{way}."


def _esm2_problems(features: dict[str, Any]) -> list[str]:
    """What ESM2 features can't be made by; values of another type are told by `_unknown_keys`."""
    checks = (("pooling", str, check_pooling, OF_GENES), ("layer", int, check_layer, features.get("checkpoint")))
    problems = []
    for key, kind, check, among in checks:
        try:
            if isinstance(features.get(key), kind):
                check(features[key], among)
        except StateshiftError as error:
            problems.append(f"[features] {key} = {features[key]!r}: {error}")
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
        if place is None and isinstance(splits, dict) and (inner := next(iter(splits), None)) not in (None, *SPLITS):
            problems.append(f'[fewshot.{key}.{inner}]: quote the key, [fewshot."{key}.{inner}"].')
            continue
        problems += wrong
        lists = isinstance(splits, dict) and all(isinstance(v, list) for v in splits.values())
        if not lists or not all(isinstance(p, str) for v in splits.values() for p in v):
            problems.append(f'[fewshot."{key}"] needs lists of texts, as in  test = ["KLF1"].')
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
