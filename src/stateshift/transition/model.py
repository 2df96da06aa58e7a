"""From control cells and a perturbation's features to perturbed cells.

Shapes: B sets, S cells a set, G genes, F feature width, H hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stateshift.effects.shift import shift_population
from stateshift.errors import StateshiftError
from stateshift.transition.backbone import SetTransformer
from stateshift.transition.config import TransitionConfig
from stateshift.transition.encoders import make_encoder
from stateshift.transition.heads import BatchToken, ConfidenceToken, gene_decoder, mlp
from stateshift.transition.means import masked_mean
from stateshift.transition.precision import without_autocast
from stateshift.transition.start import added_to_start


class TransitionOutput(NamedTuple):
    """All that a model gives for a batch.

    Parameters
    ----------
    cells
        Perturbed cells (B, S, G), or (B, S, every gene) where the projection gives every gene; rows of padding are
        meaningless.
    genes
        The gene decoder's expression of them, (B, S, every gene), log1p; None without a decoder.
    batch_logits
        A logit a set and batch, (B, batches); None without a batch token.
    confidence
        The loss expected of each set, (B,); None without a confidence token.
    """

    cells: Tensor
    genes: Tensor | None
    batch_logits: Tensor | None
    confidence: Tensor | None


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
        self.pert_encoder = make_encoder(c)
        self.basal_encoder = mlp(c.genes, c.hidden, c.hidden, c.encoder_layers if c.basal_mlp else 1, c.dropout)
        self.transformer_backbone = SetTransformer(c.hidden, c.layers, c.heads, c.ffn, alone=c.mask_attn)
        self.project_out = mlp(c.hidden, c.width, c.hidden, c.decoder_layers, c.dropout)
        if c.bottleneck:
            narrow = c.genes // 8
            self.bottleneck = nn.Sequential(nn.Linear(c.genes, narrow), nn.GELU(), nn.Linear(narrow, c.genes))
        if c.batch_encoder:
            self.batch_encoder = nn.Embedding(c.batches, c.hidden)
        if c.batch_token:
            self.batch_token = BatchToken(c.hidden, c.batches)
        if c.confidence_token:
            self.confidence_token = ConfidenceToken(c.hidden, c.dropout)
        if c.gene_decoder:
            self.gene_decoder = gene_decoder(c.genes, c.every_gene, c.gene_decoder_widths, c.dropout)
        if c.start == "effect":
            self.register_buffer("effect_down", torch.zeros(c.features, 0))
            self.register_buffer("effect_up", torch.zeros(0, c.width))
            self.register_buffer("effect_intercept", torch.zeros(c.width))
            if c.gene_decoder:
                self.register_buffer("gene_effect_up", torch.zeros(0, c.every_gene))
                self.register_buffer("gene_effect_intercept", torch.zeros(c.every_gene))
                self.gene_decoder = self.gene_decoder[:-1]  # what it adds may be negative
        if c.start != "none":
            lasts = [(self.bottleneck if c.bottleneck else self.project_out)[-1]]
            lasts += [self.gene_decoder[-1]] if c.gene_decoder else []
            for last in lasts:
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def set_start(self, down: Tensor, up: Tensor, intercept: Tensor) -> None:
        """Give the linear start: effect (G,) = features (F,) @ down (F, R) @ up (R, G) + intercept (G,), log1p."""
        # FSDP sends what it reads from a checkpoint as it lies in memory
        self.effect_down, self.effect_up, self.effect_intercept = down.contiguous(), up.contiguous(), intercept

    def set_gene_start(self, up: Tensor, intercept: Tensor) -> None:
        """Give what the gene decoder adds to: effect of every gene = features @ down of `set_start` @ up + intercept."""
        self.gene_effect_up, self.gene_effect_intercept = up.contiguous(), intercept

    def forward(self, batch: dict) -> TransitionOutput:
        """Perturbed cells for a batch, and what the model's heads give.

        Parameters
        ----------
        batch
            ``ctrl_cell_emb``: (B, S, G), or flat (B·S, G) as cell-load gives it, log1p.
            ``pert_emb``: (B, F), or one row a cell, (B·S, F); with the encoder ``esm`` it may be absent.
            ``pert_name``: with the encoder ``esm``, the perturbations' names, B of them or one a cell.
            ``mask``: (B, S) true for real cells; absent where all are.
            ``is_control``: (B,) true for sets that nobody perturbed, which have no linear start; absent where none is.
            ``start_effect``: (B, genes of the output), the mean effect that the cells start from, log1p, with
            ``start`` ``backbone``; zero for sets that nobody perturbed.
            ``ctrl_mean``: (B, G), the mean of the whole control population where a set is a part of one;
            absent, each set's own mean.
            ``ctrl_cell_counts`` and ``ctrl_counts_mean``: the same of every gene, log1p, where `starts_from_genes`.
            ``batch``: with a batch encoder, each cell's batch: (B, S) or flat (B·S,), or one-hot (B·S, batches).

        Returns
        -------
        TransitionOutput
            Its ``cells`` are log1p and not negative, or an embedding.

        Raises
        ------
        StateshiftError
            See `read_batch` and `read_batches`.
        """
        c = self.config
        x_BSG, p_BF, mask_BS = self.read_batch(batch)
        basal_BSH = self.basal_encoder(x_BSG)
        h_BSH = basal_BSH + self.pert_encoder(batch, p_BF, basal_BSH, mask_BS)[:, None, :]
        if c.batch_encoder:
            h_BSH = h_BSH + self.batch_encoder(self.read_batches(batch))
        z_BTH = self.transformer_backbone(*self._with_tokens(h_BSH, mask_BS))
        z_BSH = z_BTH[:, 1:][:, : h_BSH.shape[1]] if c.batch_token else z_BTH[:, : h_BSH.shape[1]]
        cells_BSG = self._cells(batch, x_BSG, p_BF, mask_BS, self._project(z_BSH, basal_BSH, x_BSG))
        return TransitionOutput(
            cells_BSG,
            self._genes(batch, cells_BSG, p_BF, mask_BS) if c.gene_decoder else None,
            self.batch_token(z_BTH[:, 0]) if c.batch_token else None,
            self.confidence_token(z_BTH[:, -1]) if c.confidence_token else None,
        )

    def _with_tokens(self, h_BSH: Tensor, mask_BS: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The set between the batch token and the confidence token, where there are such, and its mask."""
        before = [self.batch_token.token] if self.config.batch_token else []
        after = [self.confidence_token.token] if self.config.confidence_token else []
        if not before and not after:
            return h_BSH, mask_BS
        tokens = [[t.to(h_BSH.dtype).expand(len(h_BSH), 1, -1) for t in side] for side in (before, after)]
        if mask_BS is not None:
            mask_BS = nn.functional.pad(mask_BS, (len(before), len(after)), value=True)
        return torch.cat([*tokens[0], h_BSH, *tokens[1]], dim=1), mask_BS

    def _project(self, z_BSH: Tensor, basal_BSH: Tensor, x_BSG: Tensor) -> Tensor:
        """From the transformer's width to that of the cells."""
        if self.config.bottleneck:
            return self.bottleneck(self.project_out(z_BSH) + x_BSG)
        return self.project_out(z_BSH + basal_BSH if self.config.predict_residual else z_BSH)

    @property
    def starts_from_genes(self) -> bool:
        """Whether what it predicts is added to the control cells' expression of every gene."""
        return self.config.start != "none" and self.config.predicts_every_gene

    def _cells(self, batch: dict, x_BSG: Tensor, p_BF: Tensor, mask_BS: Tensor | None, out_BSG: Tensor) -> Tensor:
        """What the network makes, on top of the linear start or the backbone's effect where there is one."""
        c = self.config
        if c.start == "none":
            return nn.functional.relu(out_BSG) if c.relu else out_BSG
        if c.start == "backbone":
            if "start_effect" not in batch:
                raise StateshiftError(
                    "The model starts from the backbone's effects, and these cells carry no `start_effect`."
                )
            effect_BG = batch["start_effect"].to(x_BSG.dtype)
        else:
            effect_BG = self._effect(batch, p_BF, self.effect_up, self.effect_intercept)
        if c.space == "embedding" and not c.projects_every_gene:
            return x_BSG + effect_BG[:, None, :] + out_BSG
        return self._on_expression(batch, "counts" if c.projects_every_gene else "emb", effect_BG, mask_BS, out_BSG)

    def _genes(self, batch: dict, cells_BSG: Tensor, p_BF: Tensor, mask_BS: Tensor | None) -> Tensor:
        """What the gene decoder makes of the predicted cells, on top of the linear start where there is one."""
        decoded = self.gene_decoder(cells_BSG)
        if self.config.start == "none":
            return decoded
        effect_BG = self._effect(batch, p_BF, self.gene_effect_up, self.gene_effect_intercept)
        return self._on_expression(batch, "counts", effect_BG, mask_BS, decoded)

    def _effect(self, batch: dict, p_BF: Tensor, up: Tensor, intercept: Tensor) -> Tensor:
        """The linear map's effect, (B, G), in full precision under autocast; none for sets that nobody perturbed."""
        with without_autocast(p_BF):
            effect_BG = p_BF @ self.effect_down @ up + intercept
        return effect_BG * ~batch["is_control"][:, None] if "is_control" in batch else effect_BG

    def _on_expression(
        self, batch: dict, of: str, effect_BG: Tensor, mask_BS: Tensor | None, out_BSG: Tensor
    ) -> Tensor:
        """Control cells shifted by an effect, and the network's addition where they are expressed then."""
        x_BSG = self.read_batch(batch, f"ctrl_cell_{of}")[0]
        mean = "ctrl_mean" if of == "emb" else "ctrl_counts_mean"
        mean_BG = batch[mean] if mean in batch else masked_mean(x_BSG, mask_BS).to(x_BSG.dtype)
        return added_to_start(shift_population(x_BSG, effect_BG, mean_BG), out_BSG)

    def read_batch(self, batch: dict, cells: str = "ctrl_cell_emb") -> tuple[Tensor, Tensor, Tensor | None]:
        """Cells (B, S, G), features once a set (B, F), and the mask, from either layout of a batch.

        Raises
        ------
        StateshiftError
            A flat batch is no whole number of sets, or the features differ within a set.
        """
        if cells not in batch:
            raise StateshiftError(f"The model predicts every gene, and these cells carry no `{cells}`.")
        x, mask = batch[cells], batch.get("mask")
        if x.dim() == 2:
            S = min(self.config.set_size, len(x))
            if len(x) % S:
                raise StateshiftError(f"A flat batch of {len(x)} cells is no whole number of sets of {S}.")
            x = x.view(-1, S, x.shape[-1])
        if "pert_emb" not in batch and self.config.encoder == "esm":
            return x, self.pert_encoder.looked_up(batch["pert_name"], len(x)).to(x.dtype), mask
        p = batch["pert_emb"]
        if len(p) != len(x):
            per_set = p.view(len(x), -1, p.shape[-1])
            if not torch.equal(per_set, per_set[:, :1].expand_as(per_set)):
                raise StateshiftError("Cells of one set carry different perturbation features.")
            p = per_set[:, 0]
        return x, p.to(x.dtype), mask

    def read_batches(self, batch: dict) -> Tensor:
        """Each cell's batch, (B, S) whole numbers, from numbers or one-hot rows in either layout.

        Raises
        ------
        StateshiftError
            The batch carries none.
        """
        if "batch" not in batch:
            raise StateshiftError("The model tells batches apart, and these cells carry no `batch`.")
        labels, flat = batch["batch"], batch["ctrl_cell_emb"].dim() == 2
        if labels.dim() == (2 if flat else 3):
            labels = labels.argmax(-1)
        return labels.long().view(-1, min(self.config.set_size, len(labels))) if flat else labels.long()
