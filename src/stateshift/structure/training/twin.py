"""The twin network: two chains through one aggregator, their cosine drawn to their similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from stateshift.structure.aggregator import Aggregator
from stateshift.structure.training.pairs import INTERVAL, SAME_FOLD, Pairs

RECENT = 100
"""Steps whose mean loss a row of the course tells."""


class PairBatch(NamedTuple):
    """Chains end to end and the pairs among them: their similarity (P,) rounded, and whether they share a fold (P,).

    Letters: ΣL residues of all chains, P pairs.
    """

    rows: Tensor
    lengths: list[int]
    index: Tensor
    similarity: Tensor
    alike: Tensor


class PairData(torch.utils.data.Dataset):
    """Pairs by number; chains are read when a batch needs them, each once."""

    def __init__(self, pairs: Pairs, rows: Mapping[str, Tensor]):
        self.pairs, self.rows = pairs, rows

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> int:
        return int(number)

    def collate(self, numbers: Sequence[int]) -> PairBatch:
        """The batch of some pairs, similarities rounded to 0.1."""
        chosen, index = np.unique(self.pairs.index[list(numbers)], return_inverse=True)
        chains = [self.rows[self.pairs.names[i]] for i in chosen]
        similarity = torch.from_numpy(self.pairs.similarity[list(numbers)])
        return PairBatch(
            torch.cat(chains),
            [len(chain) for chain in chains],
            torch.from_numpy(index.reshape(-1, 2)),
            torch.round(similarity / INTERVAL) * INTERVAL,
            similarity >= SAME_FOLD,
        )


class Twin(lightning.LightningModule):
    """Mean squared error between the cosine of two vectors and the similarity of their chains.

    AdamW without decay; its rate warms up linearly and then falls to 0 along a cosine.

    Parameters
    ----------
    model
        The aggregator to train.
    learning_rate
        The peak.
    warmup, steps
        Steps of warm-up and of the whole training.
    seed
        Of what dropout draws, anew every epoch: a training that was stopped goes on as one that never was.
    """

    def __init__(self, model: Aggregator, learning_rate: float, warmup: int, steps: int, seed: int = 0):
        super().__init__()
        self.model = model
        self.learning_rate, self.warmup, self.steps, self.seed = learning_rate, warmup, steps, seed
        self.losses: list[float] = []
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.measured: list[dict[str, float]] = []

    def on_train_epoch_start(self) -> None:
        """Draw dropout by the epoch's number."""
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The course until here, beside weights and optimiser."""
        checkpoint["course"] = {"losses": self.losses[-RECENT:], "measured": self.measured}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the course."""
        self.losses, self.measured = checkpoint["course"]["losses"], checkpoint["course"]["measured"]

    def cosines(self, batch: PairBatch) -> Tensor:
        """The cosine (P,) of each pair."""
        vectors = self.model.packed(batch.rows, batch.lengths)
        return cosine_similarity(vectors[batch.index[:, 0]], vectors[batch.index[:, 1]], dim=1)

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """One step's loss."""
        loss = mse_loss(self.cosines(batch), batch.similarity)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: PairBatch, _: int) -> None:
        """Cosines of the validation pairs, kept until all are there."""
        self._seen.append((self.cosines(batch).cpu(), batch.similarity.cpu(), batch.alike.cpu()))

    def on_validation_epoch_end(self) -> None:
        """PR-AUC of finding pairs that share a fold, and the loss, logged by name."""
        cosines, similarity, alike = (torch.cat(part) for part in zip(*self._seen))
        self._seen = []
        measured = {
            "val_pr_auc": pr_auc(cosines.numpy(), alike.numpy()),
            "val_loss": float(mse_loss(cosines, similarity)),
        }
        self.log_dict(measured)
        recent = self.losses[-RECENT:]
        loss = sum(recent) / len(recent) if recent else math.nan
        self.measured.append({"step": self.global_step, "train_loss": loss, **measured})

    def configure_optimizers(self) -> dict:
        """AdamW, warm-up, cosine."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, self.warmup, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate(step: int, warmup: int, steps: int) -> float:
    """The share of the peak rate at a step.

    Examples
    --------
    >>> [round(rate(step, 2, 10), 2) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def pr_auc(cosines: np.ndarray, alike: np.ndarray) -> float:
    """Average precision (P cosines, P booleans) of ranking pairs of one fold by their cosine; NaN without any number."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(alike, cosines)) if np.isfinite(cosines).all() else math.nan
