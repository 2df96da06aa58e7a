"""ESM2 as an encoder: proteins to vectors, frozen; or its language model, to go on training."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stateshift.bioemb.settings import EncoderSettings
from stateshift.files import written_beside
from stateshift.proteins import embed_proteins, load_esm2


class Esm2Encoder:
    """A published ESM2, a file, or the demo model.

    Parameters
    ----------
    settings
        ``checkpoint``, ``layer`` and ``pooling`` count.
    trainable
        Whether its language model will be trained: fair-esm's network then, whose pass autograd can follow.
    """

    def __init__(self, settings: EncoderSettings, trainable: bool = False):
        self.settings = settings
        self.esm = load_esm2(settings.checkpoint, engine="fair-esm" if trainable else "stateshift")
        alphabet = self.esm.alphabet
        self.mask, self.special = alphabet.mask_idx, (alphabet.cls_idx, alphabet.eos_idx, alphabet.padding_idx)
        self.replacements = torch.tensor([alphabet.get_idx(letter) for letter in "ACDEFGHIKLMNPQRSTVWY"])
        if trainable:
            theirs = self.esm.network.theirs.requires_grad_(True)
            # the head says tokens by the vectors they are read with; loading had parted the two
            theirs.lm_head.weight = theirs.embed_tokens.weight
            theirs.contact_head.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """What has the weights."""
        return self.esm.network

    @property
    def provenance(self) -> dict[str, Any]:
        """What tells this encoder from others."""
        told = {"model": self.esm.name, "checkpoint_sha256": self.esm.sha256, "layer": self.settings.layer}
        return told | {"pooling": self.settings.pooling} | ({"demo": True} if self.esm.is_demo else {})

    def embed(self, texts: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
        """Name and vector (D,) of each protein."""
        yield from embed_proteins(self.esm, texts, layer=self.settings.layer, pooling=self.settings.pooling)

    def tokens(self, texts: Sequence[str], length: int, rng: np.random.Generator) -> Tensor:
        """Tokens (B, T) of proteins; of those longer than `length` residues a stretch drawn at random."""
        starts = [int(rng.integers(max(len(text) - length, 0) + 1)) for text in texts]
        return self.esm.tokens([text[start : start + length] for text, start in zip(texts, starts)])

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T, V) of the language model, which autograd follows."""
        return self.network(tokens, logits=True).logits

    def save(self, folder: Path) -> None:
        """Write the weights in fair-esm's layout, as ``esm2.pt``: a checkpoint for every command that takes one."""
        theirs, state = self.network.theirs, {}
        described = argparse.Namespace(
            encoder_layers=theirs.num_layers,
            encoder_embed_dim=theirs.embed_dim,
            encoder_attention_heads=theirs.attention_heads,
            token_dropout=theirs.token_dropout,
        )
        for name, weight in theirs.state_dict().items():
            if not name.startswith("contact_head"):
                prefix = "encoder." if name.startswith("lm_head") else "encoder.sentence_encoder."
                state[prefix + name] = weight.clone()
        with written_beside(folder / "esm2.pt", overwrite=True) as part:
            torch.save({"cfg": {"model": described}, "model": state}, part)
