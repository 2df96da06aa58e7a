"""AdamW with decay on weight matrices alone, and its learning rate from step to step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Optimiser:
    """What trains a model.

    Parameters
    ----------
    lr
        The highest learning rate.
    weight_decay
        AdamW's (Loshchilov & Hutter 2019), of linear weights; 0 is plain Adam.
    warmup_steps
        Steps in which the rate rises to ``lr`` along a line.
    schedule
        ``constant``, or ``cosine``: to 0 at ``max_steps`` along half a cosine (Loshchilov & Hutter 2017).
    max_steps
        Where the cosine ends.
    esm_lr
        In place of ``lr``, of ESM2's layers where they are trained.
    """

    lr: float
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "constant"
    max_steps: int = 0
    esm_lr: float = 1e-5

    def rate(self, step: int) -> float:
        """Share of ``lr`` that the step after `step` steps takes.

        Examples
        --------
        >>> cosine = Optimiser(1e-3, warmup_steps=2, schedule="cosine", max_steps=6)
        >>> [round(cosine.rate(step), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def build(self, model: nn.Module) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
        """The optimiser of a model's parameters, and the schedule of its rate."""
        # one pass over the weights instead of a dozen; not on a GPU, where Lightning can't clip what it unscales, and
        # where torch takes many weights at once unless fused is named (False means one by one)
        fused = all(p.device.type == "cpu" for p in model.parameters()) or None
        groups = parameter_groups(model, self.weight_decay, self.esm_lr)
        optimiser = torch.optim.AdamW(groups, lr=self.lr, fused=fused)
        # a fused optimiser offers to unscale gradients itself, and Lightning refuses to clip what it would unscale
        optimiser._step_supports_amp_scaling = False
        if any(isinstance(p, DTensor) for p in model.parameters()):
            _begin(optimiser)
        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)


def _begin(optimiser: torch.optim.AdamW) -> None:
    """Give an optimiser its states before its first step.

    A distributed checkpoint of an optimiser that has none makes them by an empty step, which counts as one: all
    bias corrections would be a step ahead.
    """
    for group in optimiser.param_groups:
        for p in group["params"]:
            optimiser.state[p] = {
                "step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)
            }  # fmt: skip


def parameter_groups(model: nn.Module, weight_decay: float, esm_lr: float = 1e-5) -> list[dict]:
    """Linear weights, which decay, and everything else, which doesn't: biases, norms, embeddings and tokens.

    ESM2's layers, where they are trained, are two groups more, of the rate `esm_lr`.
    """
    decaying = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    of_esm = getattr(getattr(model, "pert_encoder", None), "last_layers", None)
    theirs = {id(p) for p in of_esm.parameters()} if of_esm is not None else set()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for own, rate in ((False, {}), (True, {"lr": esm_lr})):
        members = [p for p in trained if (id(p) in theirs) == own]
        if members or not own:
            groups += [
                {"params": [p for p in members if id(p) in decaying], "weight_decay": weight_decay, **rate},
                {"params": [p for p in members if id(p) not in decaying], "weight_decay": 0.0, **rate},
            ]
    return groups
