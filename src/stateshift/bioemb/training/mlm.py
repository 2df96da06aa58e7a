"""The baseline: masked language modelling of the same encoder on the same sequences, then pooled.

Tokens are masked as by Devlin et al., BERT (2019), arXiv:1810.04805.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from stateshift.bioemb.encoders import load_encoder, read_texts, table_by, told
from stateshift.bioemb.settings import MlmSettings, read_settings
from stateshift.bioemb.trained import write_config
from stateshift.bioemb.training.train import fitted_genes
from stateshift.bioemb.training.trainer import make_trainer
from stateshift.course import write_course
from stateshift.errors import StateshiftError, enough_memory
from stateshift.feature_table import FeatureTable
from stateshift.files import new_folder
from stateshift.progress import quiet_lightning

logger = logging.getLogger(__name__)

MASKED, REPLACED = 0.8, 0.1
"""Shares of the chosen tokens; the rest stay as they are."""
UNASKED = -100
"""Where nothing is to be guessed; torch's cross-entropy passes it over."""


def train_mlm(config: str | Path, overrides: Sequence[str] = (), *, trust_remote_code: bool = False) -> FeatureTable:
    """Go on with an encoder's own language modelling, and write its table (``features.pt``) and weights.

    Parameters
    ----------
    config, overrides
        As for `train_bioemb`; ``data.fasta`` or ``data.molecules``, ``encoder`` and ``mlm`` count.
    trust_remote_code
        Whether code that comes with a Hugging Face model may run.

    Raises
    ------
    StateshiftError
        The config or an input can't be used, the run exists, or the loss became no number.
    """
    settings = read_settings(config, overrides)
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
    folder = new_folder(settings.folder)
    write_config(settings, folder)
    torch.manual_seed(settings.seed)
    module = MaskedModule(encoder, settings.mlm, folder)
    loader = masked_loader(encoder, learned, settings.mlm, settings.seed)
    half = max(1, settings.mlm.batch_size // 2)
    with quiet_lightning(), enough_memory(f"train anew with mlm.batch_size={half}"):
        make_trainer(settings.mlm.epochs, settings, folder, []).fit(module, loader)
    encoder.network.cpu().eval().requires_grad_(False)
    encoder.save(folder)
    table = table_by(encoder, texts)
    fit = "transductive" if settings.data.transductive else "training genes only"
    not_fitted = [name for name in texts.of if name not in set(fitted)]
    table.provenance |= {"source": "mlm", "run": folder.name, "epochs": settings.mlm.epochs}
    table.provenance |= {"fit": fit, "not_fitted": not_fitted}
    table.save(folder / "features.pt")
    return table


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


def masked_loader(encoder, texts: Sequence[str], settings: MlmSettings, seed: int) -> DataLoader:
    """Batches of tokens to show and to guess, drawn anew every epoch."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def collate(batch: list[str]) -> tuple[Tensor, Tensor]:
        tokens = encoder.tokens(batch, settings.max_length, rng)
        return mask_tokens(tokens, encoder.mask, encoder.special, encoder.replacements, settings.probability, generator)

    order = torch.Generator().manual_seed(seed)
    return DataLoader(texts, settings.batch_size, shuffle=True, generator=order, collate_fn=collate)


class MaskedModule(lightning.LightningModule):
    """An encoder's language model, trained to guess masked tokens; ``metrics.csv`` holds its course."""

    def __init__(self, encoder, settings: MlmSettings, folder: Path):
        super().__init__()
        self.encoder, self.settings, self.folder = encoder, settings, folder
        self.network = encoder.network.train()
        self.losses: list[Tensor] = []
        self.course: list[dict[str, float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor | None:
        """The mean cross-entropy of the tokens to guess; nothing where a short batch has none."""
        shown, guessed = batch
        if (guessed == UNASKED).all():
            return None
        loss = cross_entropy(self.encoder.logits(shown).flatten(0, 1), guessed.flatten(), ignore_index=UNASKED)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Note the epoch's loss."""
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        self.losses.clear()
        if not math.isfinite(loss):
            raise StateshiftError(
                f"The loss of epoch {self.current_epoch + 1} is no number: lower mlm.learning_rate, or give longer sequences."
            )
        self.course.append({"epoch": self.current_epoch + 1, "step": self.global_step, "loss": loss})
        logger.info("epoch %d: loss %.4f.", self.current_epoch + 1, loss)
        write_course(self.folder / "metrics.csv", self.course)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        learned = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(learned, lr=self.settings.learning_rate)
