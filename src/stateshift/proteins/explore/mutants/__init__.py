"""Mutants called against their wild type, and how far their embeddings moved."""

from stateshift.proteins.explore.mutants.calls import Call, Change, call_mutant
from stateshift.proteins.explore.mutants.comparison import Mutations, compare_mutants
from stateshift.proteins.explore.mutants.likelihood import masked_marginals
from stateshift.proteins.explore.mutants.scan import scan_mutants, single_mutants

__all__ = [
    "Call",
    "Change",
    "Mutations",
    "call_mutant",
    "compare_mutants",
    "masked_marginals",
    "scan_mutants",
    "single_mutants",
]
