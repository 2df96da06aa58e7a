"""What a folder holds that a report can tell of: runs, evaluations, and the cells behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from stateshift.errors import StateshiftError, some
from stateshift.evaluation.evaluator import evaluate
from stateshift.evaluation.report.detail import Detail, feature_map, read_detail, sets_by_gene
from stateshift.evaluation.report.detail.gene_sets import set_files_of
from stateshift.evaluation.report.detail.maps import Map
from stateshift.evaluation.result import Evaluation
from stateshift.feature_table import FeatureTable
from stateshift.hdf5 import open_hdf5

CELLS = (".h5ad", ".zarr")


@dataclass
class Source:
    """What was found.

    Parameters
    ----------
    name
        The folder's or the file's name.
    runs
        Name → run directory.
    evaluations
        Name → evaluation.
    comparisons
        Name → folder of a comparison.
    detail
        One prediction pair by pair; None where its cells are not there.
    features
        Perturbations by the features of the prediction's run; None without them.
    gene_sets
        Gene → its sets.
    shown
        The evaluation that `detail` is of.
    absent
        A sentence for each part that can't be shown, and why.
    """

    name: str
    runs: dict[str, Path] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    comparisons: dict[str, Path] = field(default_factory=dict)
    detail: Detail | None = None
    features: Map | None = None
    gene_sets: dict[str, list[str]] = field(default_factory=dict)
    shown: str = ""
    absent: list[str] = field(default_factory=list)


def read_source(
    source: Path | str,
    *,
    prediction: Path | str | None = None,
    truth: Path | str | None = None,
    gene_sets: Path | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    scale: str | None = None,
    detailed: bool = True,
) -> Source:
    """Everything below a folder, or a prediction's file, that a report tells of.

    Parameters
    ----------
    source
        A run directory, an evaluation's folder, a folder with any of these below it, or predicted cells.
    prediction, truth
        The cells to show pair by pair; by default those that the first evaluation names, beside it or in `source`.
        Predicted cells with a truth and without an evaluation are evaluated.
    gene_sets
        A GMT file; by default the one that the runs' features were made of.
    columns, scale
        Of the truth, as in `read_detail`.
    detailed
        Whether cells are read at all.

    Raises
    ------
    StateshiftError
        There is no such folder or file, or nothing in it to tell of.
    """
    source = Path(source)
    for named in (source, prediction, truth, gene_sets):
        if named is not None and not Path(named).exists():
            raise StateshiftError(
                f"{named}: there is no such folder or file; give a run, an evaluation's folder or predicted cells."
            )
    if source.suffix in CELLS:
        prediction, folder = source, None
    elif source.is_dir():
        folder = source
    else:
        raise StateshiftError(f"{source} is neither a folder nor predicted cells ({' or '.join(CELLS)}).")
    found = Source(source.resolve().name)
    if folder is not None:
        _look_into(folder, found, anything=prediction is None)
    cells, true_cells, why = _cells(found, folder, prediction, truth)
    if not found.evaluations and cells is not None and true_cells is not None:
        names = {"perturbation": "perturbation", "cell_type": "context", "control": "control"}
        declared = {names[role]: name for role, name in (columns or {}).items()}
        found.evaluations[""] = evaluate(cells, true_cells, **declared, scale=scale)
    if detailed:
        _read_cells(found, folder, cells, true_cells, why, gene_sets, columns, scale)
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder looks like a run directory: splits or a configuration beside its genes."""
    return (folder / "genes.txt").is_file() and any((folder / n).is_file() for n in ("splits.json", "config.yaml"))


def is_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison with its table."""
    return (folder / "comparison.json").is_file() and (folder / "table.csv").is_file()


def _look_into(folder: Path, found: Source, anything: bool) -> None:
    """Note the runs, evaluations and comparisons below a folder; refuse one without `anything` to tell of."""
    folders = [folder, *sorted(p for p in folder.rglob("*") if p.is_dir() and not p.name.startswith("."))]
    found.runs = {_place(p, folder): p for p in folders if is_run(p)}
    scored = [p for p in folders if (p / "evaluation.json").is_file()]
    found.evaluations = {_place(p, folder): Evaluation.load(p) for p in scored}
    found.comparisons = {_place(p, folder): p for p in folders if is_comparison(p)}
    if found.runs or scored or found.comparisons or not anything or _predictions(folder):
        return
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    there = f"it holds {some(files, 5)}" if files else "it is empty"
    cells = [name for name in files if name.endswith(CELLS)]
    hint = f" To show {cells[0]}, which no model predicted, beside a prediction, pass it as --truth." if cells else ""
    raise StateshiftError(
        f"{folder} holds neither a run (genes.txt beside splits.json), nor an evaluation (evaluation.json), nor predicted cells "
        f"({there}): train, predict or evaluate with an output in it first, or name another folder.{hint}"
    )


def _place(folder: Path, source: Path) -> str:
    """A folder's name within the source, or its own name."""
    return source.resolve().name if folder == source else folder.relative_to(source).as_posix()


def _predictions(folder: Path) -> list[Path]:
    """Predicted cells in a folder, by what stateshift writes into them."""
    found = []
    for path in sorted(folder.glob("*.h5ad")):
        try:
            with open_hdf5(path) as file:
                if "uns/stateshift/model" in file:
                    found.append(path)
        except (OSError, RuntimeError, KeyError, StateshiftError):
            continue
    return found


def _cells(
    found: Source, folder: Path | None, prediction: Path | str | None, truth: Path | str | None
) -> tuple[Path | None, Path | None, str]:
    """The predicted and the true cells to show, and where there are none, why."""
    named, named_truth = (None if p is None else Path(p) for p in (prediction, truth))
    if folder is None or (named is not None and named_truth is not None):
        return named, named_truth, ""
    for name, evaluation in found.evaluations.items():
        beside = folder if name == folder.resolve().name else folder / name
        places = [beside, beside.resolve().parent, folder]
        predicted = evaluation.about.get("predicted", "")
        if named is not None and named.name != predicted:
            continue
        cells = named or _first_there(places, predicted)
        true_cells = named_truth or _first_there(places, evaluation.about.get("truth", ""))
        if cells is not None and true_cells is not None:
            others = [other for other in found.evaluations if other != name]
            if others:
                found.absent.append(
                    f"Pair by pair this page shows {name}; a report on {some(others)} alone shows those."
                )
            found.shown = name
            return cells, true_cells, ""
    if named is not None:
        return named, named_truth, ""
    if found.evaluations:
        about = next(iter(found.evaluations.values())).about
        return None, None, (
            f"The cells that were evaluated ({about.get('predicted', '?')} against {about.get('truth', '?')}) are not here, so "
            "nothing is shown pair by pair: name them with --prediction and --truth."
        )  # fmt: skip
    held = _predictions(folder)
    if held:
        if len(held) > 1:
            found.absent.append(f"Pair by pair this page shows {held[0].name}, not {some([p.name for p in held[1:]])}.")
        return held[0], named_truth, ""
    return None, None, "No predicted cells are here: nothing is shown pair by pair."


def _first_there(folders: list[Path], name: str) -> Path | None:
    # a name alone: what a file says must not lead elsewhere
    return next((folder / name for folder in folders if name and Path(name).name == name and (folder / name).exists()), None)  # fmt: skip


def _read_cells(
    found: Source,
    folder: Path | None,
    cells: Path | None,
    truth: Path | None,
    why: str,
    gene_sets: Path | str | None,
    columns: Mapping[str, str | None] | None,
    scale: str | None,
) -> None:
    """Read the detail, the features and the gene sets; what can't be read is said in `absent`."""
    if cells is None:
        found.absent.append(why)
        return
    evaluation = _evaluation_of(found, cells)
    try:
        found.detail = read_detail(cells, truth, columns, scale, evaluation)
    except StateshiftError as error:
        if not found.evaluations and not found.runs:
            raise
        found.absent.append(f"Nothing is shown pair by pair: {error}")
        return
    if evaluation is not None:
        found.detail = replace(found.detail, rows=_with_flags(found.detail.rows, evaluation.flags))
    found.features = _features(found, cells)
    _read_gene_sets(found, gene_sets, [cells.resolve().parent] if folder is None else [folder, folder.resolve().parent])


def _evaluation_of(found: Source, cells: Path) -> Evaluation | None:
    """The evaluation that is shown, or that names the cells."""
    for name, evaluation in found.evaluations.items():
        if name == found.shown or evaluation.about.get("predicted") == cells.name:
            found.shown = name
            return evaluation
    return None


def _with_flags(rows: pd.DataFrame, flags: pd.DataFrame) -> pd.DataFrame:
    """The rows with the names of what was flagged of each pair alone."""
    of_pair = flags[flags["perturbation"] != ""].groupby(["context", "perturbation"])["name"].agg(", ".join)
    pairs = zip(rows["context"], rows["perturbation"])
    return rows.assign(flags=[of_pair.get(pair, "") for pair in pairs])


def _features(found: Source, cells: Path) -> Map | None:
    """Of the run that predicted, which goes by its folder's name, or of the only run there is."""
    from stateshift.cells.loading import read_file

    about = read_file(cells, with_matrix=False).uns.get("stateshift", {})
    wanted = str(about.get("run", ""))
    named = [run for run in found.runs.values() if run.resolve().name == wanted]
    run = named[0] if named else next(iter(found.runs.values())) if len(found.runs) == 1 else None
    if run is None or not (run / "features.pt").is_file():
        found.absent.append("No map by features: the features of the run that predicted are not here.")
        return None
    try:
        found_map = feature_map(found.detail, FeatureTable.load(run / "features.pt"))
    except StateshiftError as error:
        found.absent.append(f"No map by features: {error}")
        return None
    if found_map is None:
        found.absent.append("No map by features: fewer than three perturbations have features.")
    return found_map


def _read_gene_sets(found: Source, named: Path | str | None, folders: list[Path]) -> None:
    files = [Path(named)] if named is not None else set_files_of(found.runs.values(), folders)
    if not files:
        found.absent.append("No gene sets beside the top genes: name a GMT file with --gene-sets.")
        return
    try:
        found.gene_sets = sets_by_gene(files[0], found.detail.genes)
    except StateshiftError as error:
        if named is not None:
            raise
        found.absent.append(f"No gene sets beside the top genes: {error}")
