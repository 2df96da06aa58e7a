"""Vectors in; unique codes, their trie, and codes for new vectors out."""

from stateshift.bioemb.codes.quantiser import Quantiser, fit_quantiser
from stateshift.bioemb.codes.table import Codes, create_codes, described, make_codes
from stateshift.bioemb.codes.trie import Trie, build_trie

__all__ = ["Codes", "Quantiser", "Trie", "build_trie", "create_codes", "described", "fit_quantiser", "make_codes"]
