"""Many runs of one experiment: every combination of models, features, seeds and whatever else is swept."""

from stateshift.training.sweep.folder import SweepFolder
from stateshift.training.sweep.sweep import sweep

__all__ = ["SweepFolder", "sweep"]
