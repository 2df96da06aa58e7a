"""Simulated cells with known truth: a screen on real control cells, or an experiment of any size."""

from stateshift.cells.simulate.experiment import simulate_experiment
from stateshift.cells.simulate.proteins import simulate_proteins
from stateshift.cells.simulate.screen import shifted, simulate_screen
from stateshift.cells.simulate.truth import true_effects

__all__ = ["shifted", "simulate_experiment", "simulate_proteins", "simulate_screen", "true_effects"]
