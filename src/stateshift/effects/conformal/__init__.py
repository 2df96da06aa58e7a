"""Intervals of predicted effects: split conformal on training rows held out in the manner of a regime."""

from stateshift.effects.conformal.calibration import LEVEL, Calibration, calibrate, coverage_level
from stateshift.effects.conformal.held_out import hold_out, load_held_out, save_held_out
from stateshift.effects.conformal.nearest import nearest_trained

__all__ = [
    "LEVEL",
    "Calibration",
    "calibrate",
    "coverage_level",
    "hold_out",
    "load_held_out",
    "nearest_trained",
    "save_held_out",
]
