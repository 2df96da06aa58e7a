"""A trained model to start from: a run of ours or of arc-state's, or a checkpoint of either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.run import RunDirectory, open_run
from stateshift.transition.arc.names import batch_names, every_gene_names, gene_names, perturbation_vectors
from stateshift.transition.arc.run import ArcRun, read_arc_run
from stateshift.transition.checkpoint import load_transition
from stateshift.transition.model import TransitionModel


@dataclass
class Source:
    """A trained model and the names of what it reads and gives.

    Parameters
    ----------
    path
        As the user named it.
    checkpoint
        The file its weights come from.
    model
        The network, as ours.
    name
        Of the model.
    scale
        Of its cells: ``log1p_1e4``, ``embedding``, …; ``log1p`` where that is all there is to know.
    genes, every_gene, batches
        In the order of its weights; None where a checkpoint alone doesn't name them. ``every_gene`` are those of its
        training files, where ``genes`` are a part of them or an embedding; else none.
    features
        Its perturbations' vectors; None where they aren't beside it.
    """

    path: Path
    checkpoint: Path
    model: TransitionModel
    name: str
    scale: str
    genes: list[str] | None
    every_gene: list[str] | None
    batches: list[str] | None
    features: FeatureTable | None


def read_source(path: str | Path) -> Source:
    """Read a trained model, without executing anything that is stored with it.

    Parameters
    ----------
    path
        A run directory of ours (its ``best.ckpt`` is read), one of arc-state's (as
        `stateshift.transition.arc.run.import_arc_run` chooses its checkpoint), or a ``.ckpt`` of either.

    Raises
    ------
    StateshiftError
        There is nothing there (near misses are named), it is no such run, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        beside = (
            [p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix == ".ckpt"] if path.parent.is_dir() else []
        )
        raise StateshiftError(f"--init-from {path}: there is no such run or checkpoint{suggestion(path.name, beside)}.")
    if path.is_file() and path.suffix != ".ckpt":
        raise StateshiftError(f"--init-from {path} is no run directory and no .ckpt file.")
    run = path if path.is_dir() else path.resolve().parent.parent
    if (run / "genes.txt").is_file():
        return _ours(path, open_run(run))
    if path.is_dir() and not any((path / "checkpoints").glob("*.ckpt")):
        raise StateshiftError(
            f"--init-from {path} is a run neither of stateshift (genes.txt) nor of arc-state (checkpoints/*.ckpt)."
        )
    return _arc(path, read_arc_run(path))


def _ours(path: Path, run: RunDirectory) -> Source:
    config, features = run.config(), FeatureTable.load(run.features_file)
    checkpoint = path if path.is_file() else run.best
    return Source(
        path, checkpoint, load_transition(run, features.width, checkpoint), config["model"]["name"], config["scale"],
        run.genes(), run.every_gene(), run.batches(), features,
    )  # fmt: skip


def _arc(path: Path, arc: ArcRun) -> Source:
    """A checkpoint without its run's files still says all but names."""
    beside, embedding = arc.folder, arc.model.config.space == "embedding"
    stored = arc.options.get("gene_names") is not None or (beside / "var_dims.pkl").is_file()
    named = embedding or (stored and not arc.model.config.gene_decoder)
    batches = arc.model.config.batches and (beside / "batch_onehot_map.torch").is_file()
    return Source(
        path, arc.checkpoint, arc.model, "arc_state", "embedding" if embedding else "log1p",
        gene_names(arc) if named else None,
        every_gene_names(arc) if stored else None,
        batch_names(arc) if batches else None,
        perturbation_vectors(arc) if (beside / "pert_onehot_map.pt").is_file() else None,
    )  # fmt: skip
