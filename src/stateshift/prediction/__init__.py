"""A run and control cells in, predicted cells out."""

from stateshift.prediction.asked.requests import read_perturbations
from stateshift.prediction.joined import join_predictions
from stateshift.prediction.predict import predict

__all__ = ["join_predictions", "predict", "read_perturbations"]
