"""The state-transition set transformer: control cells and a perturbation in, perturbed cells out."""

from stateshift.transition.config import TransitionConfig
from stateshift.transition.losses import energy_distance
from stateshift.transition.model import TransitionModel, TransitionOutput
from stateshift.transition.module import TransitionModule

__all__ = ["TransitionConfig", "TransitionModel", "TransitionModule", "TransitionOutput", "energy_distance"]
