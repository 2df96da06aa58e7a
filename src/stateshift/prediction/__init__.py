"""A run and control cells in, predicted cells out."""

from stateshift.prediction.joined import join_predictions
from stateshift.prediction.predict import predict
from stateshift.prediction.prepared import MODELS
from stateshift.prediction.requests import read_perturbations

__all__ = ["MODELS", "join_predictions", "predict", "read_perturbations"]
