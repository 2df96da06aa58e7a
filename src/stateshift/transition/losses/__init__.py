"""What a training minimises: distances between predicted and measured populations, and terms on their shifts."""

from stateshift.transition.losses.energy import energy_distance
from stateshift.transition.losses.matched import mean_squared_error
from stateshift.transition.losses.objective import Objective, Populations, check_weights
from stateshift.transition.losses.shifts import contrastive, delta_cosine, quiet_genes
from stateshift.transition.losses.sinkhorn import sinkhorn_divergence

__all__ = [
    "Objective",
    "Populations",
    "check_weights",
    "contrastive",
    "delta_cosine",
    "energy_distance",
    "mean_squared_error",
    "quiet_genes",
    "sinkhorn_divergence",
]
