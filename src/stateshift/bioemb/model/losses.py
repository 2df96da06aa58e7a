"""What a training minimises, and whether the trie takes part in it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

LOSSES = ("weighted", "plain", "reference")
CONSTRAINTS = ("always", "never", "eval_only")


def masked(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits (…, V) with −∞ for tokens that may not follow."""
    return logits.masked_fill(~allowed, -torch.inf)


def code_loss(logits: Tensor, targets: Tensor, branches: Tensor, mode: str = "weighted") -> Tensor:
    """The loss of a batch's codes.

    With the cross-entropy c and the number n of tokens that the trie allows at a step:

    - ``plain``: the mean of c over all steps;
    - ``reference``: the same of logits divided by the temperature ln n + 1;
    - ``weighted``: Σ ln n · c / Σ ln n, so that a step counts by what there was to say, and forced ones not at all.

    Parameters
    ----------
    logits
        (B, T, V), masked or not.
    targets
        (B, T).
    branches
        (B, T): n.
    mode
        One of `LOSSES`.

    Examples
    --------
    >>> logits = torch.zeros(1, 2, 4)
    >>> round(code_loss(logits, torch.tensor([[0, 1]]), torch.tensor([[4, 1]])).item(), 3)  # ln 4
    1.386
    """
    choice = branches.to(logits.dtype).log()
    if mode == "reference":
        logits = logits / (choice + 1)[..., None]
    surprise = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(choice)
    if mode == "weighted":
        return (choice * surprise).sum() / choice.sum().clamp_min(torch.finfo(choice.dtype).tiny)
    return surprise.mean()
