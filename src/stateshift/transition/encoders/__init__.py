"""From what is known of a perturbation to its encoding, which is added to every cell's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from stateshift.transition.encoders.esm import EsmEncoder
from stateshift.transition.encoders.sources import SourceEncoder
from stateshift.transition.encoders.table import TableEncoder

if TYPE_CHECKING:
    from stateshift.transition.config import TransitionConfig

ENCODERS: dict[str, Callable[[TransitionConfig], nn.Module]] = {
    "table": TableEncoder,
    "sources": SourceEncoder,
    "esm": EsmEncoder,
}
"""Encoder of each name that ``model.encoder`` may be.

One is called ``encoder(batch, p_BF, basal_BSH, mask_BS)`` and gives the encoding of each set's perturbation, (B, H):
``batch`` is what `stateshift.transition.TransitionModel` was given, and the others what it made of it, the features
(B, F), the encodings of the control cells (B, S, H) and the mask of the real ones (B, S) or None.
"""


def make_encoder(config: TransitionConfig) -> nn.Module:
    """The perturbation encoder that a model's shape asks for, one of `ENCODERS`."""
    return ENCODERS[config.encoder](config)


__all__ = ["ENCODERS", "EsmEncoder", "SourceEncoder", "TableEncoder", "make_encoder"]
