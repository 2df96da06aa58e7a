"""Terms on the shift of a population's mean from its controls.

Shapes: B sets, G genes, F feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-3
"""Norm below which a shift has no direction: gradients stay bounded where a model does not move the mean."""


def delta_cosine(predicted_BG: Tensor, measured_BG: Tensor) -> Tensor:
    """1 − cosine of predicted and measured shift of the mean, from 0 (same direction) to 2, (B,).

    Parameters
    ----------
    predicted_BG, measured_BG
        Mean of the perturbed cells minus mean of their controls.
    """
    return 1 - F.cosine_similarity(predicted_BG, measured_BG, dim=1, eps=SMALLEST)


def contrastive(predicted_BG: Tensor, measured_BG: Tensor, features_BF: Tensor, *, temperature: float = 0.1) -> Tensor:
    """How little a predicted shift is nearest its own measured shift among those of the batch, (B,).

    InfoNCE (van den Oord et al. 2018, eq. 4): −log( e^{c_bb / τ} / Σ_k e^{c_bk / τ} ), with c_bk the cosine
    of set b's predicted and set k's measured shift. Other sets with the same features leave the sum: they
    are the same perturbation, which nothing has to tell apart. It is 0 where a batch holds one perturbation.

    Parameters
    ----------
    predicted_BG, measured_BG
        Mean of the perturbed cells minus mean of their controls.
    features_BF
        What the model knows each perturbation by.
    temperature
        τ; smaller asks for a wider margin.
    """
    unit_BG, unit_KG = (
        shift / shift.norm(dim=1, keepdim=True).clamp_min(SMALLEST) for shift in (predicted_BG, measured_BG)
    )
    cosine_BK = (unit_BG @ unit_KG.T) / temperature
    same_BK = (features_BF[:, None] == features_BF).all(dim=2).fill_diagonal_(False)
    own_B = torch.arange(len(cosine_BK), device=cosine_BK.device)
    return F.cross_entropy(cosine_BK.masked_fill(same_BK, -torch.inf), own_B, reduction="none")


def quiet_genes(
    predicted_BG: Tensor, measured_BG: Tensor, error_BG: Tensor, *, threshold: float = 2.0, delta: float = 0.1
) -> Tensor:
    """Huber loss of the predicted shift over the genes whose measured shift is within its error, (B,).

    (1 / |Q_b|) Σ_{g ∈ Q_b} h(p_bg), with Q_b = {g : |m_bg| ≤ threshold · error_bg}, the genes that Welch's t
    does not call, and h(p) = p² / 2 up to ``delta``, then delta · (|p| − delta / 2) (Huber 1964). It draws
    genes that did not respond to their control and leaves the others alone.

    Parameters
    ----------
    predicted_BG, measured_BG
        Mean of the perturbed cells minus mean of their controls.
    error_BG
        Standard error of the measured shift.
    threshold
        Standard errors; about 5 % of genes without an effect lie beyond 2.
    delta
        Shift, log1p, from which on the loss grows linearly.
    """
    quiet_BG = measured_BG.abs() <= threshold * error_BG
    loss_BG = F.huber_loss(predicted_BG, torch.zeros_like(predicted_BG), reduction="none", delta=delta)
    return (loss_BG * quiet_BG).sum(dim=1) / quiet_BG.sum(dim=1).clamp_min(1)
