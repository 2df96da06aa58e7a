"""A training step as Lightning runs it, and what is measured as it goes."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from stateshift.bioemb.codes import Trie
from stateshift.bioemb.model import BioEmb, code_loss, masked
from stateshift.bioemb.settings import TrainingSettings

WARMUP = 0.05
"""Share of the steps in which the rate rises; from there it falls to zero along a cosine."""


class CodeModule(lightning.LightningModule):
    """A network that learns to name entities.

    Parameters
    ----------
    model
        It.
    trie
        Of the codes; its entities are those of the batches.
    settings
        Loss, constraint, rate.
    seed
        Of what dropout draws, anew every epoch: a resumed training goes on as one never stopped.
    """

    def __init__(self, model: BioEmb, trie: Trie, settings: TrainingSettings, seed: int):
        super().__init__()
        self.model, self.settings, self.seed = model, settings, seed
        for name, array in (("nodes", trie.nodes), ("targets", trie.targets), ("branches", trie.branches)):
            self.register_buffer(name, torch.from_numpy(array).long(), persistent=False)
        self.register_buffer("allowed", torch.from_numpy(trie.allowed), persistent=False)
        self.losses: list[Tensor] = []

    def scores(self, vectors: Tensor, entities: Tensor, constrained: bool, steps: int | None = None) -> Tensor:
        """Logits (B, T, V) of the entities' own codes, or of their first `steps`, under the trie or not."""
        logits = self.model(vectors, self.targets[entities, :steps])
        return masked(logits, self.allowed[self.nodes[entities, :steps]]) if constrained else logits

    def steps_that_count(self, entities: Tensor) -> int | None:
        """Up to where a batch's codes have choices; the weighted loss counts nothing behind, so nothing is computed."""
        if self.settings.loss != "weighted":
            return None
        return int((self.branches[self.nodes[entities]] > 1).any(0).nonzero().max()) + 1

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of a batch."""
        vectors, entities = batch
        steps = self.steps_that_count(entities)
        logits = self.scores(vectors, entities, self.settings.constraint == "always", steps)
        branches = self.branches[self.nodes[entities, :steps]]
        loss = code_loss(logits, self.targets[entities, :steps], branches, self.settings.loss)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_start(self) -> None:
        """Draw dropout by the epoch's number."""
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)
        self.losses.clear()

    def configure_optimizers(self) -> dict:
        """Adam; a short warm-up and a cosine to zero."""
        optimiser = torch.optim.Adam(self.model.parameters(), lr=self.settings.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        rising = max(round(WARMUP * steps), 1)
        warm = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / (rising + 1), total_iters=rising)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps - rising, 1))
        schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [warm, fall], [rising])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def accuracies(self, vectors: Tensor, batch: int = 512) -> dict[str, float]:
        """How much of their codes the entities (E, F) are said right, each token told those before it.

        Returns
        -------
        dict
            ``token_accuracy`` over the steps with a choice, and ``exact_code``, the share of codes without a mistake,
            which is what greedy decoding names.
        """
        was_training = self.model.training
        self.model.eval()
        constrained = self.settings.constraint != "never"
        right = []
        # vectors lie on the CPU, which a GPU's numbers can't be places in
        for some in torch.arange(len(vectors)).split(batch):
            told = self.scores(vectors[some].to(self.targets.device), some, constrained).argmax(-1)
            right.append(told == self.targets[some])
        self.model.train(was_training)
        hit = torch.cat(right)
        choice = self.branches[self.nodes] > 1
        if self.settings.loss == "weighted":
            hit |= ~choice  # never taught, and never asked when decoding
        return {"token_accuracy": float(hit[choice].float().mean()), "exact_code": float(hit.all(1).float().mean())}


def entity_loader(vectors: Tensor, batch_size: int, seed: int) -> DataLoader:
    """Batches of vectors (B, F) and entities (B,), shuffled by seed and epoch."""
    data = TensorDataset(vectors, torch.arange(len(vectors)))
    # of one process; unlike others, this sampler is told the epoch, which a resumed training begins in the middle
    order = DistributedSampler(data, num_replicas=1, rank=0, seed=seed)
    # with a generator of its own, the loader takes nothing of what dropout draws from
    return DataLoader(data, batch_size, sampler=order, generator=torch.Generator())
