"""Many devices and machines: Lightning's predict loop hands the batches out, all processes fill one store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning
from torch import nn
from torch.utils.data import DataLoader

from stateshift.proteins.embedding.batches import Batch
from stateshift.proteins.store.writer import StoreWriter


class _Embedding(lightning.LightningModule):
    """Each process embeds its share of the groups, dealt out from the longest to the shortest."""

    def __init__(self, network, open_store, embed, groups_left):
        super().__init__()
        # only the first process of all makes the file; Lightning has the others wait for it
        self.prepare_data_per_node = False
        self.network = network
        self._open_store, self._embed, self._groups_left = open_store, embed, groups_left
        self.writer: StoreWriter | None = None

    def prepare_data(self) -> None:
        self.writer = self._open_store(alone=True)

    def setup(self, stage: str) -> None:
        self.writer = self.writer or self._open_store(alone=False)
        # planned by every process before any of them writes, so that all have the same plan
        self._groups = self._groups_left(self.writer)

    def predict_dataloader(self) -> DataLoader:
        share = self._groups[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(share, batch_size=None, collate_fn=lambda group: group)

    def predict_step(self, group: Sequence[Batch]) -> None:
        self._embed(self.writer, group)

    def transfer_batch_to_device(self, group, device, dataloader_idx):
        return group

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier("embedded")


def embed_on_many(
    network: nn.Module,
    open_store: Callable[[bool], StoreWriter],
    embed: Callable[[StoreWriter, Sequence[Batch]], None],
    groups_left: Callable[[StoreWriter], list[list[Batch]]],
    devices: int,
    nodes: int,
) -> StoreWriter:
    """Fill a store from several processes; see `stateshift.proteins.store.fill.fill_store`.

    Returns
    -------
    StoreWriter
        In the first process with all that the others wrote, read anew and checked.
    """
    module = _Embedding(network, open_store, embed, groups_left)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(module, return_predictions=False)
    module.writer.close()
    return open_store(alone=trainer.is_global_zero)
