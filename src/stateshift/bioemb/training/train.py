"""Train from one config: a table or an encoder's, its codes, their trie, the network; or go on with a run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from stateshift.bioemb.codes import Codes, build_trie, described, make_codes
from stateshift.bioemb.encoders import input_table
from stateshift.bioemb.model import BioEmb, Shape
from stateshift.bioemb.settings import DataSettings, Settings, read_settings
from stateshift.bioemb.trained import TrainedBioEmb, open_bioemb, read_config, save_model, write_config
from stateshift.bioemb.training.module import CodeModule, entity_loader
from stateshift.bioemb.training.recorder import Recorder
from stateshift.bioemb.training.trainer import LAST, fit, make_trainer
from stateshift.bioemb.training.watch import downstream_watch
from stateshift.cells import held_out_genes, read_experiment
from stateshift.errors import StateshiftError, enough_memory, some, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.files import written_beside
from stateshift.genes import read_names
from stateshift.progress import quiet_lightning
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

BEAM = 5


@left_alone()
def train_bioemb(
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: Path | None = None,
    trust_remote_code: bool = False,
) -> TrainedBioEmb:
    """Train, and write a run: its config, input, codes, network, course (``metrics.csv``) and fine-tuned table.

    Parameters
    ----------
    config
        A YAML file or a preset: ``genes``, ``proteins``, ``bbbp``.
    overrides
        ``key=value``, as ``data.table=features.pt``; see `Settings`.
    resume
        Instead: a run whose training was stopped.
    trust_remote_code
        Whether code that comes with a Hugging Face model may run.

    Raises
    ------
    StateshiftError
        The config or an input can't be used, the run exists, or the loss became no number.
    """
    if (config is None) == (resume is None):
        raise StateshiftError("Name either a config to train from (--config) or a run to go on with (--resume).")
    if resume is not None:
        if overrides:
            raise StateshiftError(f"--resume goes on with the run's own config: leave out {some(overrides)}.")
        return _resumed(Path(resume))
    settings = read_settings(config, overrides)
    return train_on(settings, input_table(settings, trust_remote_code))


def train_on(settings: Settings, table: FeatureTable) -> TrainedBioEmb:
    """Train with settings on a table in memory; the run is written to ``settings.folder``.

    Raises
    ------
    StateshiftError
        As `train_bioemb`.
    """
    kept = set(fitted_genes(table, settings.data))
    return train_with_held_out(settings, table, set(table.genes) - kept)


def train_with_held_out(settings: Settings, table: FeatureTable, held_out: Collection[str]) -> TrainedBioEmb:
    """`train_on` with the held-out genes named here, not by a file."""
    fitted = table.subset([gene for gene in table.genes if gene not in held_out])
    codes = make_codes(fitted, k=settings.codes.k, max_levels=settings.codes.max_levels, seed=settings.codes.seed)
    for line in described(codes):
        logger.info("%s", line)
    if settings.model.bottleneck >= table.width:
        logger.warning(
            "the bottleneck of %d values is no narrower than the table's %d: it has to leave nothing out; set a smaller "
            "model.bottleneck in a training of its own (stateshift bioemb train)",
            settings.model.bottleneck,
            table.width,
        )
    if settings.codes.shuffled:
        codes = codes.shuffled(settings.seed)
    downstream_watch(settings, table)  # a label file that can't be used is refused before anything is written
    with written_beside(settings.folder) as part:  # whole, so that it can be gone on with at any time
        part.mkdir()
        write_config(settings, part)
        table.save(part / "input.pt")
        codes.save(part / "codes.npz")
    return _fit(settings.folder, settings, table, codes)


def fitted_genes(table: FeatureTable, data: DataSettings) -> list[str]:
    """The genes of a table that may be fitted: all, or all but those that a list or an experiment holds out.

    Raises
    ------
    StateshiftError
        What is held out can't be read, or is none of the table's.
    """
    if data.transductive:
        return table.genes
    if Path(data.held_out).suffix == ".toml":
        names = held_out_genes(read_experiment(data.held_out))
    else:
        _, names = read_names(data.held_out)
    held_out = set(names)
    if held_out and held_out.isdisjoint(table.genes):
        raise StateshiftError(
            f"data.held_out={data.held_out} names no gene of the table{suggestion(names[0], table.genes)}."
        )
    logger.info("%d genes are held out from codes and training.", len(held_out & set(table.genes)))
    return [gene for gene in table.genes if gene not in held_out]


def open_or_resume(folder: Path) -> TrainedBioEmb:
    """A run that has ended, or that is brought to its end here."""
    return open_bioemb(folder) if (folder / "features.pt").is_file() else train_bioemb(resume=folder)


def _resumed(folder: Path) -> TrainedBioEmb:
    settings = read_config(folder)
    if (folder / "model.pt").is_file() and (folder / "features.pt").is_file():
        raise StateshiftError(
            f"{folder} has all its {settings.training.epochs} epochs: there is nothing to go on with."
        )
    lacking = [name for name in ("input.pt", "codes.npz") if not (folder / name).is_file()]
    if lacking:
        raise StateshiftError(
            f"{folder} lacks {some(lacking)}: it was stopped before its training, and has to be trained anew; or it is one "
            "of train-mlm, to go on with by that."
        )
    return _fit(folder, settings, FeatureTable.load(folder / "input.pt"), Codes.load(folder / "codes.npz"))


def _fit(folder: Path, settings: Settings, table: FeatureTable, codes: Codes) -> TrainedBioEmb:
    """Train to the last epoch, from the checkpoint where there is one, and write what comes of it."""
    vectors = torch.from_numpy(entity_vectors(table, codes))
    trie = build_trie(codes.codes, codes.tokens)
    torch.manual_seed(settings.seed)
    shape = Shape.of_preset(
        settings.model.preset,
        width=table.width,
        tokens=codes.tokens,
        length=trie.targets.shape[1],
        bottleneck=settings.model.bottleneck,
    )
    model = BioEmb(shape)
    model.standardise_by(vectors.numpy())
    module = CodeModule(model, trie, settings.training, settings.seed)
    recorder = Recorder(folder, vectors, settings.training.measure_every, downstream_watch(settings, table))
    with quiet_lightning():
        trainer = make_trainer(settings.training.epochs, settings, folder, [recorder])
        loader = entity_loader(vectors, settings.training.batch_size, settings.seed)
        half = max(1, settings.training.batch_size // 2)
        with enough_memory(f"train anew with training.batch_size={half}"):
            fit(trainer, module, loader, folder / LAST, f"stateshift bioemb train --resume {folder}")
    save_model(model.cpu().eval(), folder / "model.pt")
    half = TrainedBioEmb(folder, settings, table, codes, model)
    report = recovery(half, vectors)
    with written_beside(folder / "recovery.csv", overwrite=True) as part:
        part.write_text("decoding,share\n" + "".join(f"{way},{share:.6f}\n" for way, share in report.items()))
    logger.info(
        "%s: right entity by greedy decoding %.1f %%, by a beam of %d %.1f %%.",
        folder, 100 * report["greedy"], BEAM, 100 * report[f"beam_{BEAM}"],
    )  # fmt: skip
    # last: with it a run has ended
    half.fine_tuned().save(folder / "features.pt", overwrite=True)
    return open_bioemb(folder)


def entity_vectors(table: FeatureTable, codes: Codes) -> np.ndarray:
    """One vector (E, F) an entity, in the order of its codes."""
    return table.subset(codes.names).vectors


def recovery(trained: TrainedBioEmb, vectors: torch.Tensor, batch: int = 256) -> dict[str, float]:
    """The share of entities (E, F) that decoding names right, greedy and by the first of a beam."""
    decoder = trained.decoder
    right = {"greedy": 0, f"beam_{BEAM}": 0}
    for some_entities in torch.arange(len(vectors)).split(batch):
        embedded = trained.model.embed(vectors[some_entities]).detach()
        right["greedy"] += int((decoder.greedy(embedded) == some_entities).sum())
        right[f"beam_{BEAM}"] += int((decoder.beam(embedded, BEAM).entities[:, 0] == some_entities).sum())
    return {way: count / len(vectors) for way, count in right.items()}
