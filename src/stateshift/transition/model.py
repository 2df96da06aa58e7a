"""From control cells and a perturbation's features to perturbed cells.

Shapes: B sets, S cells a set, G genes, F feature width, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stateshift.effects.shift import shift_population
from stateshift.errors import StateshiftError
from stateshift.transition.backbone import SetTransformer


@dataclass(frozen=True)
class TransitionConfig:
    """Shape of a `TransitionModel`.

    Parameters
    ----------
    genes, features
        G and F, from the data.
    hidden, layers, heads, ffn
        Of the set transformer; ``heads`` divides ``hidden``.
    set_size
        S that it is trained on; predictions use the same.
    encoder_layers, decoder_layers
        Linear layers of the encoders and of the output projection.
    basal_mlp
        Encode cells with an MLP; else with one linear layer.
    predict_residual
        Add the cell's own encoding to what the transformer hands to the output projection.
    start
        ``effect``: the cells start from their control, shifted by a linear map of the features (fitted by
        ridge on pseudobulk effects, frozen), and the network adds to what is expressed then, from zero.
        ``none``: the network makes the whole output, as published.
    dropout
        In the encoders and the output projection.
    space
        ``expression``: outputs are not negative. ``embedding``: they may be anything.
    """

    genes: int
    features: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    set_size: int
    encoder_layers: int
    decoder_layers: int
    basal_mlp: bool = True
    predict_residual: bool = True
    start: str = "effect"
    dropout: float = 0.1
    space: str = "expression"

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "ffn", "set_size", "encoder_layers", "decoder_layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise StateshiftError(f"model.{name}={value} has to be a whole number of at least 1.")
        if self.hidden % self.heads:
            raise StateshiftError(f"model.heads={self.heads} does not divide model.hidden={self.hidden}.")
        if self.start not in ("effect", "none"):
            raise StateshiftError(f"model.start={self.start}: there are `effect` and `none`.")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise StateshiftError(f"model.dropout={self.dropout} has to be a number from 0 to below 1.")
        for name in ("basal_mlp", "predict_residual"):
            if not isinstance(getattr(self, name), bool):
                raise StateshiftError(f"model.{name}={getattr(self, name)} has to be true or false.")


def mlp(n_in: int, n_out: int, hidden: int, layers: int, dropout: float) -> nn.Sequential:
    """``layers`` linear layers with GELU and dropout between them."""
    widths = [n_in, *[hidden] * (layers - 1), n_out]
    parts: list[nn.Module] = []
    for i in range(layers):
        parts.append(nn.Linear(widths[i], widths[i + 1]))
        if i < layers - 1:
            parts += [nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts)


class TransitionModel(nn.Module):
    """The state transition: encode, mix cells within a set, project back to genes.

    After STATE (Adduri et al. 2025): a perturbation encoding is added to every cell's encoding, a
    bidirectional transformer without positions mixes the cells of a set, and an MLP projects back.
    The map is equivariant to permutations of the cells. The frozen linear start is ours.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: TransitionConfig):
        super().__init__()
        self.config = c = config
        self.pert_encoder = mlp(c.features, c.hidden, c.hidden, c.encoder_layers, c.dropout)
        self.basal_encoder = mlp(c.genes, c.hidden, c.hidden, c.encoder_layers if c.basal_mlp else 1, c.dropout)
        self.transformer_backbone = SetTransformer(c.hidden, c.layers, c.heads, c.ffn)
        self.project_out = mlp(c.hidden, c.genes, c.hidden, c.decoder_layers, c.dropout)
        if c.start == "effect":
            self.register_buffer("effect_down", torch.zeros(c.features, 0))
            self.register_buffer("effect_up", torch.zeros(0, c.genes))
            self.register_buffer("effect_intercept", torch.zeros(c.genes))
            nn.init.zeros_(self.project_out[-1].weight)
            nn.init.zeros_(self.project_out[-1].bias)

    def set_start(self, down: Tensor, up: Tensor, intercept: Tensor) -> None:
        """Give the linear start: effect (G,) = features (F,) @ down (F, R) @ up (R, G) + intercept (G,), log1p."""
        self.effect_down, self.effect_up, self.effect_intercept = down, up, intercept

    def forward(self, batch: dict) -> Tensor:
        """Perturbed cells for a batch.

        Parameters
        ----------
        batch
            ``ctrl_cell_emb``: (B, S, G), or flat (B·S, G) as cell-load gives it, log1p.
            ``pert_emb``: (B, F), or one row a cell, (B·S, F).
            ``mask``: (B, S) true for real cells; absent where all are.
            ``is_control``: (B,) true for sets that nobody perturbed, which have no linear start; absent where none is.
            ``ctrl_mean``: (B, G), the mean of the whole control population where a set is a part of one;
            absent, each set's own mean.

        Returns
        -------
        Tensor
            (B, S, G), log1p and not negative, or an embedding; rows of padding are meaningless.
        """
        x_BSG, p_BF, mask_BS = self.read_batch(batch)
        basal_BSH = self.basal_encoder(x_BSG)
        h_BSH = basal_BSH + self.pert_encoder(p_BF)[:, None, :]
        z_BSH = self.transformer_backbone(h_BSH, mask_BS)
        out_BSG = self.project_out(z_BSH + basal_BSH if self.config.predict_residual else z_BSH)
        if self.config.start == "effect":
            effect_BG = p_BF @ self.effect_down @ self.effect_up + self.effect_intercept
            if "is_control" in batch:
                effect_BG = effect_BG * ~batch["is_control"][:, None]
            if self.config.space == "embedding":
                return x_BSG + effect_BG[:, None, :] + out_BSG
            mean_BG = batch["ctrl_mean"] if "ctrl_mean" in batch else masked_mean(x_BSG, mask_BS)
            start_BSG = shift_population(x_BSG, effect_BG, mean_BG)
            # a gene that is silent in a cell stays so: small additions to every zero would make cells
            # that no sequencer gives, and thousands of genes differentially expressed
            out_BSG = start_BSG + out_BSG * (start_BSG > 0)
        return out_BSG if self.config.space == "embedding" else torch.relu(out_BSG)

    def read_batch(self, batch: dict, cells: str = "ctrl_cell_emb") -> tuple[Tensor, Tensor, Tensor | None]:
        """Cells (B, S, G), features once a set (B, F), and the mask, from either layout of a batch.

        Raises
        ------
        StateshiftError
            A flat batch is no whole number of sets, or the features differ within a set.
        """
        x, p, mask = batch[cells], batch["pert_emb"], batch.get("mask")
        if x.dim() == 2:
            S = min(self.config.set_size, len(x))
            if len(x) % S:
                raise StateshiftError(f"A flat batch of {len(x)} cells is no whole number of sets of {S}.")
            x = x.view(-1, S, x.shape[-1])
        if len(p) != len(x):
            per_set = p.view(len(x), -1, p.shape[-1])
            if not torch.equal(per_set, per_set[:, :1].expand_as(per_set)):
                raise StateshiftError("Cells of one set carry different perturbation features.")
            p = per_set[:, 0]
        return x, p.to(x.dtype), mask


def masked_mean(x_BSG: Tensor, mask_BS: Tensor | None) -> Tensor:
    """Mean over the real cells of each set, (B, G)."""
    if mask_BS is None:
        return x_BSG.mean(dim=1)
    weight = mask_BS.to(x_BSG.dtype)
    return torch.einsum("bsg,bs->bg", x_BSG, weight) / weight.sum(dim=1, keepdim=True)
