"""A Hugging Face encoder of SMILES: molecules to vectors, frozen; or its language model, to go on training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stateshift.bioemb.settings import EncoderSettings
from stateshift.errors import StateshiftError, some
from stateshift.progress import track

logger = logging.getLogger(__name__)


class MoleculeEncoder:
    """A BERT-type encoder by name or folder; a molecule's vector is the mean over its tokens.

    Parameters
    ----------
    settings
        ``checkpoint``, ``max_length`` and ``batch_size`` count.
    trainable
        Whether its masked language model will be trained.
    trust_remote_code
        Whether Python code that comes with the model may run.
    """

    def __init__(self, settings: EncoderSettings, trainable: bool = False, trust_remote_code: bool = False):
        if settings.checkpoint is None:
            raise StateshiftError(
                "Molecules need an encoder: encoder.checkpoint=NAME or FOLDER of a Hugging Face model."
            )
        transformers = _transformers()
        self.settings = settings
        kind = transformers.AutoModelForMaskedLM if trainable else transformers.AutoModel
        try:
            options = {"trust_remote_code": trust_remote_code}
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(settings.checkpoint, **options)
            self.network: nn.Module
            self.network, loaded = kind.from_pretrained(settings.checkpoint, output_loading_info=True, **options)
        except Exception as error:
            if "trust_remote_code" in str(error):
                raise StateshiftError(
                    f"encoder.checkpoint={settings.checkpoint} comes with Python code of its own: read it, and let it run "
                    "with --trust-remote-code."
                ) from error
            where = (
                "" if Path(settings.checkpoint).is_dir() else " (there is no such folder here, so a Hugging Face name)"
            )
            reason = " ".join(str(error).split())[:200]
            raise StateshiftError(
                f"encoder.checkpoint={settings.checkpoint}{where} can't be loaded: {reason}"
            ) from error
        # the pooler, which many checkpoints lack, is not used
        lacking = [key for key in loaded["missing_keys"] if "pooler" not in key]
        if lacking:
            what = "language model" if trainable else "encoder"
            raise StateshiftError(
                f"encoder.checkpoint={settings.checkpoint} lacks weights of its {what}, which would be random: {some(sorted(lacking), 3)}."
            )
        if self.tokenizer.pad_token_id is None:
            raise StateshiftError(
                f"encoder.checkpoint={settings.checkpoint} has no padding token: no encoder of this kind."
            )
        self.network.eval().requires_grad_(trainable)
        self.mask, self.special = self.tokenizer.mask_token_id, tuple(self.tokenizer.all_special_ids)
        if trainable and self.mask is None:
            raise StateshiftError(
                f"encoder.checkpoint={settings.checkpoint} has no mask token: it can't be trained so."
            )
        self.replacements = torch.tensor(sorted(set(self.tokenizer.get_vocab().values()) - set(self.special)))

    @property
    def provenance(self) -> dict[str, Any]:
        """What tells this encoder from others."""
        return {"model": str(self.settings.checkpoint), "pooling": "mean", "max_length": self.settings.max_length}

    def embed(self, texts: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
        """Name and vector (D,) of each molecule: the mean of the last layer over its tokens."""
        names = sorted(texts, key=lambda name: len(texts[name]))
        size = self.settings.batch_size
        batches = [names[start : start + size] for start in range(0, len(names), size)]
        encoder = getattr(self.network, self.network.base_model_prefix, self.network)
        cut: list[str] = []
        for batch in track(batches, "Embedding molecules"):
            read = [texts[name] for name in batch]
            whole = self.tokenizer(read)["input_ids"]
            cut += [name for name, tokens in zip(batch, whole) if len(tokens) > self.settings.max_length]
            tokens = self._tokens(read, self.settings.max_length)
            there = (tokens != self.tokenizer.pad_token_id).to(self.network.device)
            with torch.inference_mode():
                rows = encoder(input_ids=tokens.to(self.network.device), attention_mask=there.long()).last_hidden_state
            pooled = (rows * there[..., None]).sum(1) / there.sum(1, keepdim=True)
            yield from zip(batch, pooled.float().cpu().numpy())
        if cut:
            logger.warning(
                "Of %d molecules of more than %d tokens the rest is not read (encoder.max_length): %s.",
                len(cut), self.settings.max_length, some(cut, 3),
            )  # fmt: skip

    def tokens(self, texts: Sequence[str], length: int, rng: np.random.Generator) -> Tensor:
        """Tokens (B, T) of molecules, longer ones cut at `length`."""
        return self._tokens(texts, length)

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T, V) of the language model, which autograd follows."""
        return self.network(input_ids=tokens, attention_mask=(tokens != self.tokenizer.pad_token_id).long()).logits

    def save(self, folder: Path) -> None:
        """Write model and tokeniser as the folder ``encoder``, which encoder.checkpoint takes."""
        self.network.save_pretrained(folder / "encoder")
        self.tokenizer.save_pretrained(folder / "encoder")

    def _tokens(self, texts: Sequence[str], length: int) -> Tensor:
        return self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")[
            "input_ids"
        ]


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise StateshiftError(
            "Encoders of molecules need transformers: install it with `pip install 'stateshift[molecules]'`."
        ) from error
    # what it reports of heads that are not used would alarm; what is lacking is refused
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
