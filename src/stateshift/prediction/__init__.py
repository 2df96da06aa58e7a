"""A run and control cells in, predicted cells out."""

from stateshift.prediction.predict import predict
from stateshift.prediction.prepared import MODELS
from stateshift.prediction.requests import read_perturbations

__all__ = ["MODELS", "predict", "read_perturbations"]
