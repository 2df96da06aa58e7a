"""Train an aggregator: pairs and residue rows in, the best checkpoint by PR-AUC out."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, WeightedRandomSampler

from stateshift.course import write_course
from stateshift.errors import StateshiftError, enough_memory, some
from stateshift.files import intact, read_tensors, refuse_unwritable, written_beside
from stateshift.progress import quiet_lightning, told_how_to_go_on
from stateshift.structure.aggregator import (
    Aggregator,
    AggregatorShape,
    TrainedAggregator,
    load_aggregator,
    save_aggregator,
)
from stateshift.structure.pipeline.run import trainer_for
from stateshift.structure.training.pairs import SAME_FOLD, Pairs
from stateshift.structure.training.twin import PairData, Twin

logger = logging.getLogger(__name__)

DRAWS = 100


@dataclass(frozen=True)
class TrainingSettings:
    """How an aggregator is trained.

    Parameters
    ----------
    hidden
        H; None: as wide as the residue rows without local geometry.
    layers, blocks, dropout
        Of its shape.
    epochs, pairs_per_epoch
        An epoch draws so many pairs with replacement, every similarity interval alike often.
    warmup_epochs
        Of the rate.
    batch_size
        Pairs a step.
    learning_rate
        The peak; the published 1e-5 suits 172 M parameters, small ones learn with more.
    val_share
        Of the chains, kept away from training where no validation pairs are given.
    seed
        Draws the validation chains, the pairs and the first weights.
    """

    hidden: int | None = None
    layers: int = 6
    blocks: int = 12
    dropout: float = 0.1
    epochs: int = 20
    pairs_per_epoch: int = 2000
    warmup_epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 1e-4
    val_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {k: getattr(self, k) for k in ("epochs", "pairs_per_epoch", "batch_size", "layers", "blocks")}
        low = [name for name, number in whole.items() if number < 1]
        if low:
            raise StateshiftError(f"A training's {' and '.join(low)} must be 1 or more.")
        if not 0 < self.val_share < 1:
            raise StateshiftError(f"--val-share must lie between 0 and 1, not {self.val_share}.")
        if not 0 < self.learning_rate < math.inf:
            raise StateshiftError(f"--learning-rate must be above 0, not {self.learning_rate}.")


def train_aggregator(
    pairs: Pairs,
    rows: Mapping[str, Tensor],
    residues: dict[str, Any],
    output: str | Path,
    settings: TrainingSettings | None = None,
    val_pairs: Pairs | None = None,
    trainer_options: Mapping[str, Any] | None = None,
) -> TrainedAggregator:
    """Train an aggregator and keep the weights that rank validation pairs best.

    After every epoch ``output.best`` holds the best weights and ``output.resume`` what the same call goes on from, where the
    training was stopped; it ends as one that never was, and takes both away.

    Parameters
    ----------
    pairs
        What to learn from.
    rows
        Name → residue rows (L, D); a folder of tensors may be read lazily (`StoredRows`).
    residues
        What the rows are, kept with the weights: ``model``, ``model_sha256``, ``geometry``.
    output
        The file; ``output.metrics.csv`` beside it holds the course of the training.
    settings
        See `TrainingSettings`.
    val_pairs
        Pairs to choose the checkpoint by; default: those among a share of the chains, which training never sees.
    trainer_options
        Handed to Lightning's Trainer: accelerator, devices, num_nodes.

    Raises
    ------
    StateshiftError
        Chains have no rows, validation has no pairs of both kinds, the output exists, or a training with other settings
        or pairs was stopped there.
    """
    settings = settings or TrainingSettings()
    output = Path(output)
    if output.exists():
        raise StateshiftError(f"{output} exists already: choose another name.")
    refuse_unwritable(output)
    _check_rows(pairs, val_pairs, rows)
    content = digest(*(p for p in (pairs, val_pairs) if p is not None))
    if val_pairs is None:
        pairs, val_pairs = split(pairs, settings.val_share, settings.seed)
    elif not 0 < (alike := (val_pairs.similarity >= SAME_FOLD).sum()) < len(val_pairs):
        raise StateshiftError(
            f"Of {len(val_pairs)} validation pairs {alike} are of one fold ({SAME_FOLD} or more): the checkpoint is chosen "
            "by telling both kinds apart."
        )
    width = rows[pairs.names[pairs.index[0, 0]]].shape[1]
    hidden = settings.hidden or width - (9 if residues.get("geometry") else 0)
    torch.manual_seed(settings.seed)
    shape = AggregatorShape.for_width(
        width, hidden, layers=settings.layers, blocks=settings.blocks, dropout=settings.dropout
    )
    model = Aggregator(shape)
    told = {**settings.__dict__, "pairs": len(pairs), "val_pairs": len(val_pairs)}
    keeper = KeepBest(TrainedAggregator(model, residues, told), output, content)
    with quiet_lightning():
        trainer = trainer_for(
            trainer_options or {},
            max_epochs=settings.epochs,
            callbacks=[keeper],
            num_sanity_val_steps=0,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        train, val = _loaders(pairs, val_pairs, rows, settings, trainer.world_size, trainer.global_rank)
        steps = len(train)
        twin = Twin(
            model, settings.learning_rate, settings.warmup_epochs * steps, settings.epochs * steps, settings.seed
        )
        fewer = f"train anew with --batch-size {max(1, settings.batch_size // 2)}"
        with enough_memory(fewer), told_how_to_go_on("the same command"):
            trainer.fit(twin, train, val, ckpt_path=keeper.stopped_at(), weights_only=True)
    if keeper.best is None:
        raise StateshiftError(
            "The training gave no validation score: the losses are no numbers; lower --learning-rate."
        )
    return load_aggregator(output)


def digest(*pairs: Pairs) -> str:
    """What tells pairs from others."""
    told = hashlib.sha256()
    for some_pairs in pairs:
        told.update("\n".join(some_pairs.names).encode() + some_pairs.index.tobytes() + some_pairs.similarity.tobytes())
    return told.hexdigest()


class KeepBest(lightning.Callback):
    """Writes the weights whenever validation ranks better than before, and course and state after every epoch.

    Parameters
    ----------
    trained
        The model, what its rows are and how it is trained.
    output
        What the best weights will be called.
    pairs
        Digest of the pairs; what was stopped with others, or with other settings, is not gone on with.
    """

    def __init__(self, trained: TrainedAggregator, output: Path, pairs: str):
        self.trained, self.output = trained, output
        self.weights, self.state = (output.with_name(f"{output.name}.{kind}") for kind in ("best", "resume"))
        self.told = {**trained.training, **trained.residues, "pairs_sha256": pairs}
        self.best: tuple[float, int] | None = None

    def stopped_at(self) -> Path | None:
        """The state of a training that was stopped; a StateshiftError where it is damaged or of another training."""
        if not self.state.is_file():
            return None
        with intact(self.state, "Remove it to train anew."):
            before = dict(read_tensors(self.state, mmap=True)["callbacks"][self.state_key]["told"])
        other = sorted(key for key in {*before, *self.told} if before.get(key) != self.told.get(key))
        if other:
            raise StateshiftError(
                f"{self.state} is of a training with another {some(other)}: go on with its own, or remove it to train anew."
            )
        logger.info("%s: a training that was stopped goes on.", self.state)
        return self.state

    def state_dict(self) -> dict[str, Any]:
        """Lightning stores this with the state."""
        return {"told": self.told, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best until there."""
        self.best = state_dict["best"]

    def on_fit_end(self, trainer: lightning.Trainer, twin: Twin) -> None:
        """Give the best weights their name; there is nothing to go on with any more."""
        if trainer.is_global_zero:
            if self.best is not None:
                os.replace(self.weights, self.output)
            self.state.unlink(missing_ok=True)
        trainer.strategy.barrier()

    def on_train_epoch_end(self, trainer: lightning.Trainer, twin: Twin) -> None:
        """Keep the state, gathered from every process."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.state)
            return
        with written_beside(self.state, overwrite=True) as part:
            trainer.save_checkpoint(part)

    def on_validation_end(self, trainer: lightning.Trainer, twin: Twin) -> None:
        """Compare, keep, record."""
        last = twin.measured[-1]
        if math.isfinite(last["val_pr_auc"]) and (self.best is None or last["val_pr_auc"] > self.best[0]):
            self.best = last["val_pr_auc"], last["step"]
            if trainer.is_global_zero:
                told = {**self.trained.training, **last}
                kept = TrainedAggregator(self.trained.model, self.trained.residues, told)
                save_aggregator(kept, self.weights, overwrite=True)
        if trainer.is_global_zero:
            write_course(self.output.with_name(self.output.name + ".metrics.csv"), twin.measured)


def split(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Pairs to train on and to validate with, without a chain in common; of few chains, the first draw with both kinds.

    Raises
    ------
    StateshiftError
        In no draw the chains held out make pairs of one fold and of different ones.
    """
    names = sorted({pairs.names[i] for i in pairs.index.ravel()})
    count = max(round(share * len(names)), 3)
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS):
        held_out = {names[i] for i in rng.permutation(len(names))[:count]}
        val, train = pairs.among(held_out), pairs.among(set(names) - held_out)
        alike = (val.similarity >= SAME_FOLD).sum()
        if len(train) and 0 < alike < len(val):
            logger.info("Validation: %d pairs of %d chains, %d of one fold.", len(val), count, alike)
            return train, val
    raise StateshiftError(
        f"{count} chains held out make {len(val)} pairs, {alike} of one fold: the checkpoint is chosen by telling both "
        "kinds apart. Give --val-pairs, more --val-share, or more pairs."
    )


def _check_rows(pairs: Pairs, val_pairs: Pairs | None, rows: Mapping[str, Tensor]) -> None:
    wanted = {p.names[i] for p in (pairs, val_pairs) if p is not None for i in np.unique(p.index)}
    lacking = sorted(name for name in wanted if name not in rows)
    if lacking:
        raise StateshiftError(
            f"{len(lacking)} of {len(wanted)} chains of the pairs have no residue rows: {some(lacking)}."
        )


class Draws(WeightedRandomSampler):
    """Draws with replacement, by seed and epoch, which Lightning tells: a stopped training begins in the middle."""

    def __init__(self, weights: Tensor, draws: int, seed: int):
        super().__init__(weights, draws, replacement=True, generator=torch.Generator())
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Draw as this epoch does."""
        self.generator.manual_seed(self.seed + 1_000_003 * epoch)


def _loaders(
    pairs: Pairs, val_pairs: Pairs, rows: Mapping[str, Tensor], settings: TrainingSettings, world: int, rank: int
) -> Sequence[DataLoader]:
    """Draws of training pairs, a different share on every process; all validation pairs."""
    data, val = PairData(pairs, rows), PairData(val_pairs, rows)
    draws = max(settings.pairs_per_epoch // world, 1)
    sampler = Draws(torch.from_numpy(pairs.weights()), draws, settings.seed * 1000 + rank)
    return (
        # with a generator of its own, a loader takes nothing of what dropout draws from
        DataLoader(data, settings.batch_size, sampler=sampler, collate_fn=data.collate, generator=torch.Generator()),
        DataLoader(val, settings.batch_size, collate_fn=val.collate),
    )
