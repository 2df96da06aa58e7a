import torch

from stateshift.transition import TransitionConfig, TransitionModule
from stateshift.transition.optimiser import Optimiser


def test_cell_loads_own_loader_trains_the_model(screen):
    from cell_load.data_modules import PerturbationDataModule

    torch.manual_seed(0)
    data = PerturbationDataModule(
        str(screen.toml), batch_size=2, num_workers=0, pert_col="target_gene", batch_col="batch",
        cell_type_key="cell_type", control_pert="non-targeting", cell_sentence_len=6, basal_mapping_strategy="batch",
        drop_last=True,
    )  # fmt: skip
    data.setup()
    batches = list(data.train_dataloader())
    width = batches[0]["pert_emb"].shape[-1]
    config = TransitionConfig(
        genes=20, features=width, hidden=8, layers=1, heads=2, ffn=16, set_size=6, encoder_layers=1, decoder_layers=1
    )
    module = TransitionModule(config, Optimiser(3e-3))
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(30):
        for batch in batches:
            assert batch["ctrl_cell_emb"].shape[0] % 6 == 0
            loss = module.training_step(batch, 0)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert torch.isfinite(torch.tensor(losses)).all()
    assert sum(losses[-len(batches) :]) < 0.8 * sum(losses[: len(batches)])
