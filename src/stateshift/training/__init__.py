"""An experiment in, a run out: features read, effects fitted, the transition model trained."""

from stateshift.training.config import compose_config
from stateshift.training.train import resume, train

__all__ = ["compose_config", "resume", "train"]
