"""The network, its losses, and decoding under the trie."""

from stateshift.bioemb.model.decoding import Decoder, Named
from stateshift.bioemb.model.losses import CONSTRAINTS, LOSSES, code_loss, masked
from stateshift.bioemb.model.network import PRESETS, BioEmb, Shape

__all__ = ["CONSTRAINTS", "LOSSES", "PRESETS", "BioEmb", "Decoder", "Named", "Shape", "code_loss", "masked"]
