"""A run and control cells in, predicted cells out."""

from stateshift.prediction.predict import MODELS, predict
from stateshift.prediction.requests import read_perturbations

__all__ = ["MODELS", "predict", "read_perturbations"]
