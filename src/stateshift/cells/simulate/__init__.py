"""Simulated cells with known truth: a screen on real control cells, or an experiment of any size."""

from stateshift.cells.simulate.proteins import simulate_proteins
from stateshift.cells.simulate.screen import shifted, simulate_screen

__all__ = ["shifted", "simulate_proteins", "simulate_screen"]
