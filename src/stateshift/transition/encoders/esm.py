"""Genes by name, through ESM2 vectors that the model holds.

Shapes: B sets, S cells a set, P genes, F feature width, H hidden width, T tokens of a window of a protein.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.transition.heads import mlp

if TYPE_CHECKING:
    from stateshift.proteins.embedding.states import Window
    from stateshift.proteins.esm2.last_layers import LastLayers
    from stateshift.transition.config import TransitionConfig


class EsmEncoder(nn.Module):
    """Gene names → vectors → H by ``encoder_layers`` linear layers.

    The vectors are a buffer that is not stored with the weights: a run keeps them by name in its ``features.pt``,
    where a checkpoint has no names and would hold them twice more, and a gene that is embedded later joins them
    without a weight being touched. The linear layers are named as a table encoder's, whose weights they can take.

    With ``unfreeze_esm_layers`` a gene that has a protein gets its vector from ESM2's last layers, which are
    trained, on states below them that are not; the buffer serves the others, and the linear start.

    Attributes
    ----------
    genes
        Gene → its row of ``vectors`` (P, F).
    control
        The perturbation that is none; it has zeros for a vector, as in a table encoder.
    """

    def __init__(self, config: TransitionConfig):
        super().__init__()
        c = config
        for number, layer in enumerate(mlp(c.features, c.hidden, c.hidden, c.encoder_layers, c.dropout)):
            self.add_module(str(number), layer)
            self._depth = number + 1
        self.register_buffer("vectors", torch.zeros(0, c.features), persistent=False)
        self.genes: dict[str, int] = {}
        self.control: str | None = None
        self.last_layers: LastLayers | None = None
        self._windows: Callable[[str], list[Window] | None] = lambda gene: None
        self._example: list[Window] = []

    def hold(self, table: FeatureTable, control: str | None = None) -> None:
        """Take the vectors of genes, in place of those there were."""
        self.vectors = torch.from_numpy(table.vectors).to(self.vectors)
        self.genes = {gene: row for row, gene in enumerate(table.genes)}
        self.control = control

    def unfreeze(self, layers: LastLayers) -> None:
        """Have ESM2's last layers trained; `read_states` says what they read."""
        self.last_layers = layers

    def read_states(self, windows: Callable[[str], list[Window] | None]) -> None:
        """Say where a gene's windows below the unfrozen layers come from; None for a gene without a protein."""
        self._windows = windows
        self._example = next(filter(None, map(windows, self.genes)), [])

    def forward(self, batch: dict, p_BF: Tensor, basal_BSH: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Encode the perturbations of ``batch["pert_name"]``, (B, H).

        Raises
        ------
        StateshiftError
            A gene has no vector: it is never silently zero.
        """
        if self.last_layers is None:
            h = self.looked_up(batch["pert_name"], len(basal_BSH))
        else:
            h = self._through_layers(batch["pert_name"], len(basal_BSH))
        h = h.to(p_BF.dtype)
        for number in range(self._depth):
            h = self.get_submodule(str(number))(h)
        return h

    @torch.compiler.disable
    def looked_up(self, names: Sequence[str], n_sets: int) -> Tensor:
        """The buffer's vectors of perturbations by name, (B, F), the sum of a double's; zeros of the control.

        Parameters
        ----------
        names
            One a set, or one a cell, as cell-load gives them.
        n_sets
            B.
        """
        sets, genes = self._places(names, n_sets)
        self._require(genes)
        rows = torch.tensor([self.genes[gene] for gene in genes], dtype=torch.long, device=self.vectors.device)
        return self._summed(sets, self.vectors[rows], n_sets)

    @torch.compiler.disable
    def _through_layers(self, names: Sequence[str], n_sets: int) -> Tensor:
        """As `looked_up`, each gene that has a protein once through the unfrozen layers."""
        sets, genes = self._places(names, n_sets)
        self._require(genes)
        distinct = list(dict.fromkeys(genes))
        windows = [self._windows(gene) or [] for gene in distinct]
        pieces = [piece for of_gene in windows for piece in of_gene]
        if not pieces:
            # processes that train together need a gradient of every weight, be it zero
            return self.looked_up(names, n_sets) + 0 * self._stretches(self._example).sum()
        made = iter(self._stretches(pieces).unbind())
        vector = {
            gene: sum(next(made) for _ in of_gene) if of_gene else self.vectors[self.genes[gene]]
            for gene, of_gene in zip(distinct, windows)
        }
        return self._summed(sets, torch.stack([vector[gene] for gene in genes]), n_sets)

    def _stretches(self, pieces: Sequence[Window]) -> Tensor:
        """What each window gives to its protein's vector, (N, F): the weighted sum of its rows after the last layer."""
        device = self.vectors.device
        rows_NTD = self.last_layers([torch.from_numpy(piece.rows).to(device) for piece in pieces])
        weights = [torch.from_numpy(piece.weights).to(device) for piece in pieces]
        weights_NT = nn.utils.rnn.pad_sequence(weights, batch_first=True)
        return torch.einsum("nt,ntd->nd", weights_NT, rows_NTD.float())

    def _places(self, names: Sequence[str], n_sets: int) -> tuple[list[int], list[str]]:
        """For every gene that is perturbed in a set: the set's number, and the gene."""
        per_set = [set(names[i : i + len(names) // n_sets]) for i in range(0, len(names), len(names) // n_sets)]
        if len(per_set) != n_sets or any(len(named) > 1 for named in per_set):
            raise StateshiftError("Cells of one set carry different perturbations.")
        perturbed = [(i, named.pop()) for i, named in enumerate(per_set)]
        pairs = [(i, gene) for i, name in perturbed if name != self.control for gene in genes_of(name)]
        return [i for i, _ in pairs], [gene for _, gene in pairs]

    def _require(self, genes: Sequence[str]) -> None:
        absent = sorted({gene for gene in genes if gene not in self.genes})
        if absent:
            hint = suggestion(absent[0], self.genes) if len(absent) == 1 else ""
            raise StateshiftError(f"The encoder holds no vector of {some(absent)}{hint}.")

    @staticmethod
    def _summed(sets: list[int], vectors: Tensor, n_sets: int) -> Tensor:
        places = torch.tensor(sets, dtype=torch.long, device=vectors.device)
        return vectors.new_zeros(n_sets, vectors.shape[1]).index_add(0, places, vectors)
