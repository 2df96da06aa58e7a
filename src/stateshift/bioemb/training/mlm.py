"""The baseline: masked language modelling of the same encoder on the same sequences, then pooled.

Tokens are masked as by Devlin et al., BERT (2019), arXiv:1810.04805.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from stateshift.bioemb.encoders import load_encoder, read_texts, table_by, told
from stateshift.bioemb.settings import MlmSettings, Settings, read_settings
from stateshift.bioemb.trained import read_config, write_config
from stateshift.bioemb.training.train import fitted_genes
from stateshift.bioemb.training.trainer import LAST, fit, make_trainer
from stateshift.course import read_course, write_course
from stateshift.errors import StateshiftError, enough_memory, some
from stateshift.feature_table import FeatureTable
from stateshift.files import new_folder, written_beside
from stateshift.progress import quiet_lightning
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

MASKED, REPLACED = 0.8, 0.1
"""Shares of the chosen tokens; the rest stay as they are."""
UNASKED = -100
"""Where nothing is to be guessed; torch's cross-entropy passes it over."""


@left_alone()
def train_mlm(
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: Path | None = None,
    trust_remote_code: bool = False,
) -> FeatureTable:
    """Go on with an encoder's own language modelling, and write its table (``features.pt``) and weights.

    Parameters
    ----------
    config, overrides
        As for `train_bioemb`; ``data.fasta`` or ``data.molecules``, ``encoder`` and ``mlm`` count.
    resume
        Instead: a run whose training was stopped; it ends as one that never was.
    trust_remote_code
        Whether code that comes with a Hugging Face model may run.

    Raises
    ------
    StateshiftError
        The config or an input can't be used, the run exists, or the loss became no number.
    """
    settings = _settings(config, overrides, resume)
    if settings.data.table is not None:
        raise StateshiftError(
            "train-mlm trains an encoder on sequences: name data.fasta or data.molecules, no data.table."
        )
    texts = read_texts(settings.data)
    logger.info("%s.", told(texts))
    encoder = load_encoder(texts.kind, settings, trainable=True, trust_remote_code=trust_remote_code)
    seen = FeatureTable(list(texts.of), np.zeros((len(texts.of), 1)))
    fitted = fitted_genes(seen, settings.data)
    learned = [texts.of[name] for name in fitted]
    if resume is None:
        folder = new_folder(settings.folder)
        write_config(settings, folder)
    else:
        folder = Path(resume)
    draws = Draws(settings.seed)
    module = MaskedModule(encoder, settings, folder, draws, learned)
    loader = masked_loader(encoder, learned, settings.mlm, draws)
    half = max(1, settings.mlm.batch_size // 2)
    with quiet_lightning(), enough_memory(f"train anew with mlm.batch_size={half}"):
        trainer = make_trainer(settings.mlm.epochs, settings, folder, [])
        fit(trainer, module, loader, folder / LAST, f"stateshift bioemb train-mlm --resume {folder}")
    encoder.network.cpu().eval().requires_grad_(False)
    encoder.save(folder)
    table = table_by(encoder, texts)
    told_fit = "transductive" if settings.data.transductive else "training genes only"
    not_fitted = [name for name in texts.of if name not in set(fitted)]
    table.provenance |= {"source": "mlm", "run": folder.name, "epochs": settings.mlm.epochs}
    table.provenance |= {"fit": told_fit, "not_fitted": not_fitted}
    table.save(folder / "features.pt")
    return table


def _settings(config: str | Path | None, overrides: Sequence[str], resume: Path | None) -> Settings:
    """Of a new training, or those of a run that has not ended."""
    if (config is None) == (resume is None):
        raise StateshiftError("Name either a config to train from (--config) or a run to go on with (--resume).")
    if resume is None:
        return read_settings(config, overrides)
    if overrides:
        raise StateshiftError(f"--resume goes on with the run's own config: leave out {some(overrides)}.")
    settings = read_config(Path(resume))
    if (Path(resume) / "input.pt").is_file():
        raise StateshiftError(f"{resume} is a run of `stateshift bioemb train`: go on with that.")
    if (Path(resume) / "features.pt").is_file():
        raise StateshiftError(f"{resume} has all its {settings.mlm.epochs} epochs: there is nothing to go on with.")
    return settings


class Draws:
    """What a training draws from: the order of its sequences, stretches of long ones, tokens to mask."""

    def __init__(self, seed: int):
        self.order, self.masks = (torch.Generator().manual_seed(seed) for _ in range(2))
        self.stretches = np.random.default_rng(seed)

    def state(self) -> dict[str, Any]:
        """Where they stand."""
        held = {"order": self.order.get_state(), "masks": self.masks.get_state()}
        return held | {"stretches": self.stretches.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.order.set_state(state["order"])
        self.masks.set_state(state["masks"])
        self.stretches.bit_generator.state = state["stretches"]


def mask_tokens(
    tokens: Tensor,
    mask: int,
    special: Sequence[int],
    replacements: Tensor,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Choose tokens to guess: 80 % are masked, 10 % become another, 10 % stay.

    Parameters
    ----------
    tokens
        (B, T).
    mask, special, replacements
        The mask token; tokens never chosen; what a token may become.
    probability
        Of a token to be chosen.
    generator
        Draws all.

    Returns
    -------
    Tensor, Tensor
        The tokens to show (B, T), and those to guess (B, T), `UNASKED` elsewhere.
    """
    may = ~torch.isin(tokens, torch.tensor(list(special)))
    chosen = may & (torch.rand(tokens.shape, generator=generator) < probability)
    fate = torch.rand(tokens.shape, generator=generator)
    other = replacements[torch.randint(len(replacements), tokens.shape, generator=generator)]
    shown = torch.where(chosen & (fate < MASKED), mask, tokens)
    shown = torch.where(chosen & (fate >= MASKED) & (fate < MASKED + REPLACED), other, shown)
    return shown, torch.where(chosen, tokens, UNASKED)


def masked_loader(encoder, texts: Sequence[str], settings: MlmSettings, draws: Draws) -> DataLoader:
    """Batches of tokens to show and to guess, drawn anew every epoch."""

    def collate(batch: list[str]) -> tuple[Tensor, Tensor]:
        tokens = encoder.tokens(batch, settings.max_length, draws.stretches)
        return mask_tokens(
            tokens, encoder.mask, encoder.special, encoder.replacements, settings.probability, draws.masks
        )

    return DataLoader(texts, settings.batch_size, shuffle=True, generator=draws.order, collate_fn=collate)


class MaskedModule(lightning.LightningModule):
    """An encoder's language model, trained to guess masked tokens.

    After every epoch ``metrics.csv`` holds its course, and ``checkpoints/last.ckpt`` what a stopped training needs.
    """

    def __init__(self, encoder, settings: Settings, folder: Path, draws: Draws, texts: Sequence[str]):
        super().__init__()
        self.encoder, self.settings, self.folder, self.draws = encoder, settings, folder, draws
        self.texts_sha256 = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        self.network = encoder.network.train()
        self.losses: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        """Draw dropout by the epoch's number."""
        torch.manual_seed(self.settings.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor | None:
        """The mean cross-entropy of the tokens to guess; nothing where a short batch has none."""
        shown, guessed = batch
        if (guessed == UNASKED).all():
            return None
        loss = cross_entropy(self.encoder.logits(shown).flatten(0, 1), guessed.flatten(), ignore_index=UNASKED)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Note the epoch's loss, keep the state."""
        epoch, step = self.current_epoch + 1, self.global_step
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        self.losses.clear()
        if not math.isfinite(loss):
            raise StateshiftError(
                f"The loss of epoch {epoch} is no number: lower mlm.learning_rate, or give longer sequences."
            )
        logger.info("epoch %d: loss %.4f.", epoch, loss)
        course = self.folder / "metrics.csv"
        write_course(course, [*read_course(course, step - 1), {"epoch": epoch, "step": step, "loss": loss}])
        with written_beside(self.folder / LAST, overwrite=True) as part:
            self.trainer.save_checkpoint(part)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside weights and optimiser: where the draws stand, and of which sequences."""
        checkpoint["draws"], checkpoint["texts_sha256"] = self.draws.state(), self.texts_sha256

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the draws; other sequences than those of the run are refused."""
        if checkpoint["texts_sha256"] != self.texts_sha256:
            where = self.settings.data.fasta or self.settings.data.molecules
            raise StateshiftError(
                f"{where}, or what is held out of it, has changed since {self.folder} began: train anew with another name."
            )
        self.draws.restore(checkpoint["draws"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        learned = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(learned, lr=self.settings.mlm.learning_rate)
