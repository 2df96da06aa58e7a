"""An arc-state run as a run directory of ours, for everything that reads runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stateshift.errors import StateshiftError, some
from stateshift.files import intact, refuse_broken, written_beside, yaml_text
from stateshift.run import RunDirectory, new_run, open_run
from stateshift.transition.arc.checkpoint import arc_model
from stateshift.transition.arc.files import read_pickled
from stateshift.transition.arc.names import batch_names, every_gene_names, gene_names, perturbation_vectors
from stateshift.transition.model import TransitionModel

logger = logging.getLogger(__name__)

WAY_OUT = "Copy arc-state's run anew."
STATE_TRANSITION = ("state", "pertsets", "neuralot")
"""arc-state's names of the one model that is read."""


@dataclass
class ArcRun:
    """What was read of an arc-state run.

    Parameters
    ----------
    folder, checkpoint
        Its directory, and the checkpoint chosen.
    model
        Its network as ours.
    options
        arc-state's hyper-parameters and settings.
    """

    folder: Path
    checkpoint: Path
    model: TransitionModel
    options: dict[str, Any]


def import_arc_run(source: str | Path, output: str | Path) -> Path:
    """Write an arc-state run as a run directory of ours, which `stateshift predict` and fine-tuning read.

    Effects of the training cells aren't part of an arc-state run, so the baselines of ours are absent, and
    so is what was trained on. Perturbations whose vector is all zeros had none there, and are left out by name.

    Parameters
    ----------
    source
        The run's directory, or one of its checkpoints: of a directory, ``final.ckpt``, or ``last.ckpt`` where
        that went further, or ``best.ckpt`` where neither is there.
    output
        The directory to make.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    StateshiftError
        The run lacks a file, a file is damaged or hostile, or its parts don't fit together.
    InputProblems
        The run uses what our model can't do; each is named.
    """
    import torch
    import yaml

    arc = read_arc_run(source)
    config = arc.model.config
    with intact(arc.folder, WAY_OUT):
        genes, every_gene, table = gene_names(arc), every_gene_names(arc), perturbation_vectors(arc)
        batches = batch_names(arc) if config.batches else []
    run = new_run(output)
    try:
        run.write_genes(genes)
        if every_gene:
            run.write_every_gene(every_gene)
        if batches:
            run.write_batches(batches)
        table.save(run.features_file)
        run.write_text("config.yaml", yaml.safe_dump(_config(arc), sort_keys=False))
        run.write_text("experiment.toml", _columns(arc.options))
        run.write_splits({})
        run.write_versions()
        weights = {f"model.{name}": value.clone() for name, value in arc.model.state_dict().items()}
        # into a handle: by a name, torch keeps that in the file, and the same run would have another checksum each time
        with written_beside(run.best) as part, part.open("wb") as handle:
            torch.save({"state_dict": weights}, handle)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    logger.info("%s: read as %s", arc.checkpoint, config)
    if arc.options.get("embed_key") is not None and not every_gene:
        alone = "the embedding" if config.space == "embedding" else f"its {config.genes:,} genes"
        logger.warning("%s: it models %s alone, and stores no effects: no other gene is predicted", arc.folder, alone)
    return run.path


def read_arc_run(source: str | Path) -> ArcRun:
    """The network and the settings of an arc-state run, as `import_arc_run` chooses its checkpoint."""
    import yaml

    source = Path(source)
    folder = _folder(source)
    settings: dict[str, Any] = {}
    if (folder / "config.yaml").is_file():
        try:
            settings = yaml.safe_load(yaml_text(folder / "config.yaml"))
            name = str(settings["model"]["name"]).lower()
            stated = {**settings["model"]["kwargs"], **settings["data"]["kwargs"]}
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise StateshiftError(f"{folder / 'config.yaml'} is no config of arc-state: copy it anew.") from error
        if name not in STATE_TRANSITION:
            raise StateshiftError(
                f"{folder} is a run of arc-state's `{name}`: its state-transition model alone is read "
                f"({some(STATE_TRANSITION)})."
            )
    else:
        stated = {}
    path, stored = _checkpoint(source, folder)
    if not isinstance(stored, dict) or not isinstance(stored.get("state_dict"), dict):
        raise StateshiftError(f"{path} holds no state_dict: it is no checkpoint of arc-state.")
    with intact(path, WAY_OUT):
        options = {**stated, **_plain(stored.get("hyper_parameters", {}))}
        model = arc_model(stored["state_dict"], options, str(path))
        refuse_broken(model.state_dict(), path)
    return ArcRun(folder, path, model, options)


def is_arc_run(path: str | Path) -> bool:
    """Whether a path is an arc-state run or a checkpoint, rather than a run of ours."""
    path = Path(path)
    if path.suffix == ".ckpt" and path.is_file():
        return not (path.resolve().parent.parent / "genes.txt").is_file()
    return path.is_dir() and not (path / "genes.txt").is_file() and (path / "pert_onehot_map.pt").is_file()


@contextlib.contextmanager
def opened_run(path: str | Path) -> Iterator[RunDirectory]:
    """A run of ours as it lies, or one of arc-state's imported into a temporary folder for as long."""
    if not is_arc_run(path):
        yield open_run(path)
        return
    with tempfile.TemporaryDirectory(prefix="stateshift-arc-") as folder:
        yield open_run(import_arc_run(path, Path(folder) / "run"))


def _folder(source: Path) -> Path:
    """The run directory that a source is, or is a checkpoint of."""
    if source.is_dir():
        return source
    if not source.is_file():
        raise StateshiftError(f"{source}: there is no such run or checkpoint.")
    beside = source.resolve().parent
    return beside.parent if beside.name == "checkpoints" else beside


def _checkpoint(source: Path, folder: Path) -> tuple[Path, Any]:
    """The checkpoint to read, and its content."""
    if source.is_file():
        return source, read_pickled(source)
    found = [folder / "checkpoints" / f"{name}.ckpt" for name in ("final", "last", "best")]
    found = [path for path in found if path.is_file()]
    if not found:
        raise StateshiftError(f"{folder} has no checkpoints/final.ckpt, last.ckpt or best.ckpt.")
    # final.ckpt is not written anew when arc-state goes on with a run
    path, stored = found[0], read_pickled(found[0])
    if path.stem == "final" and len(found) > 1 and found[1].stem == "last":
        last = read_pickled(found[1])
        if last.get("global_step", 0) > stored.get("global_step", 0):
            logger.warning("%s is older than last.ckpt, which is read", path)
            return found[1], last
    return path, stored


def _plain(options: Any) -> dict[str, Any]:
    """Hyper-parameters as plain containers."""
    from omegaconf import DictConfig, OmegaConf

    return OmegaConf.to_container(options) if isinstance(options, DictConfig) else dict(options)


def _config(arc: ArcRun) -> dict[str, Any]:
    """The config of a run, its model's settings in our words."""
    config = arc.model.config
    return {
        "model": {"name": "arc_state", **config.settings()},
        "training": {},
        "data": {},
        "name": arc.folder.resolve().name,
        "output_dir": ".",
        "seed": int(arc.options.get("train_seed", 0)),
        "scale": "embedding" if config.space == "embedding" else "log1p",
        **({"every_gene_scale": "log1p"} if config.every_gene else {}),
        "imported_from": "arc-state",
    }


def _columns(options: Mapping[str, Any]) -> str:
    """An experiment that says nothing but how the columns are called."""
    import toml

    theirs = {"perturbation": "pert_col", "cell_type": "cell_type_key", "batch": "batch_col", "control": "control_pert"}
    columns = {ours: str(options[name]) for ours, name in theirs.items() if options.get(name) is not None}
    if options.get("embed_key") is not None:
        columns["embedding"] = options["embed_key"]
    return toml.dumps({"columns": columns})
