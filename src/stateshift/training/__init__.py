"""An experiment in, a run out: features read, effects fitted, the transition model trained, swept."""

from stateshift.training.check import ExperimentCheck, check_experiment
from stateshift.training.config import compose_config
from stateshift.training.resume import resume
from stateshift.training.sweep import sweep
from stateshift.training.train import experiment_config, train

__all__ = ["ExperimentCheck", "check_experiment", "compose_config", "experiment_config", "resume", "sweep", "train"]
