"""The weighted sum that a training minimises, each term known by its name.

Shapes: B sets, S cells a set, G genes, F feature width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stateshift.errors import InputProblems, suggestion
from stateshift.transition.losses.energy import energy_distance
from stateshift.transition.losses.matched import mean_squared_error
from stateshift.transition.losses.shifts import contrastive, delta_cosine, quiet_genes
from stateshift.transition.losses.sinkhorn import sinkhorn_divergence
from stateshift.transition.means import masked_mean


@dataclass
class Populations:
    """The cells that a batch's losses compare.

    Parameters
    ----------
    predicted, measured, control
        (B, S, G) each.
    features
        (B, F).
    mask
        (B, S) true for real cells, of all three; absent where all are.
    is_control
        (B,) true for sets that nobody perturbed; absent where none is.
    """

    predicted: Tensor
    measured: Tensor
    control: Tensor
    features: Tensor
    mask: Tensor | None = None
    is_control: Tensor | None = None

    @cached_property
    def predicted_shift(self) -> Tensor:
        """Mean predicted cell minus mean control, (B, G)."""
        return masked_mean(self.predicted, self.mask) - masked_mean(self.control, self.mask)

    @cached_property
    def measured_shift(self) -> Tensor:
        """Mean measured cell minus mean control, (B, G)."""
        return masked_mean(self.measured, self.mask) - masked_mean(self.control, self.mask)

    @cached_property
    def shift_error(self) -> Tensor:
        """Standard error of the measured shift, of variances that may differ (Welch 1947), (B, G)."""
        n = self.mask.sum(dim=1)[:, None] if self.mask is not None else self.measured.shape[1]
        spread = sum(
            masked_mean((cells - masked_mean(cells, self.mask)[:, None]).square(), self.mask)
            for cells in (self.measured, self.control)
        )
        return (spread / torch.as_tensor(n - 1).clamp_min(1)).sqrt()

    def of_perturbed(self, loss: Tensor) -> Tensor:
        """A loss per set (B,), nothing for sets without a measured effect."""
        return loss if self.is_control is None else loss.masked_fill(self.is_control, 0)


def _contrastive(p: Populations) -> Tensor:
    kept = torch.ones_like(p.predicted_shift[:, 0], dtype=torch.bool) if p.is_control is None else ~p.is_control
    loss = p.predicted_shift.new_zeros(len(kept))
    if not kept.any():
        return loss
    return loss.index_put((kept,), contrastive(p.predicted_shift[kept], p.measured_shift[kept], p.features[kept]))


TERMS: dict[str, Callable[[Populations, float], Tensor]] = {
    "energy": lambda p, blur: energy_distance(p.predicted, p.measured, p.mask),
    "sinkhorn": lambda p, blur: sinkhorn_divergence(p.predicted, p.measured, p.mask, blur=blur),
    "mse": lambda p, blur: mean_squared_error(p.predicted, p.measured, p.mask),
    "delta_cosine": lambda p, blur: p.of_perturbed(delta_cosine(p.predicted_shift, p.measured_shift)),
    "contrastive": lambda p, blur: _contrastive(p),
    "quiet_genes": lambda p, blur: quiet_genes(p.predicted_shift, p.measured_shift, p.shift_error),
}
"""A loss per set (B,) of each name that a ``loss`` group weighs."""


def check_weights(settings: Mapping[str, Any]) -> None:
    """Refuse a ``loss`` group with a name that nothing reads, or weights that can't train.

    Raises
    ------
    InputProblems
        All that is wrong, with near misses of a name.
    """
    problems = [
        f"loss.{name} is no term{suggestion(name, [*TERMS, 'blur'])}"
        for name in settings
        if name not in {*TERMS, "blur", "name"}
    ]
    for name, value in settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if name in TERMS and not (number and value >= 0):
            problems.append(f"loss.{name}={value} has to be a number of at least 0")
        if name == "blur" and not (number and value > 0):
            problems.append(f"loss.blur={value} has to be a number above 0")
    if not problems and not any(settings.get(name, 0) for name in TERMS):
        problems.append(f"no term has a weight above 0: give one to {', '.join(TERMS)}")
    if problems:
        raise InputProblems("the loss", problems)


class Objective:
    """Weighted sum of `TERMS`.

    Parameters
    ----------
    settings
        A ``loss`` group: a weight for each term, those of 0 never computed; ``blur`` of the Sinkhorn divergence.

    Examples
    --------
    >>> Objective({"energy": 1.0, "delta_cosine": 0.1, "mse": 0}).weights
    {'energy': 1.0, 'delta_cosine': 0.1}
    """

    def __init__(self, settings: Mapping[str, Any]):
        check_weights(settings)
        self.weights = {name: float(settings[name]) for name in TERMS if settings.get(name)}
        self.blur = float(settings.get("blur", 0.05))

    def __call__(self, populations: Populations) -> dict[str, Tensor]:
        """Each term by its name, and their weighted sum ``loss``, (B,) each."""
        terms = {name: TERMS[name](populations, self.blur) for name in self.weights}
        return {"loss": sum(self.weights[name] * value for name, value in terms.items()), **terms}
