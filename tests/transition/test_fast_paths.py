"""What is done another way to be faster gives what the plain way gives."""

import copy

import pytest
import torch
from torch.nn import functional as F

from stateshift.transition import TransitionConfig, TransitionModule
from stateshift.transition.backbone import attention
from stateshift.transition.optimiser import Optimiser, parameter_groups

TINY = TransitionConfig(
    genes=12, features=5, hidden=16, layers=2, heads=2, ffn=32, set_size=6, encoder_layers=2, decoder_layers=2
)


def batch(**more) -> dict:
    random = torch.Generator().manual_seed(0)
    cells = torch.rand(2, 4, 6, 12, generator=random) * (torch.rand(2, 4, 6, 12, generator=random) < 0.6)
    return {
        "ctrl_cell_emb": cells[0], "pert_cell_emb": cells[1], "pert_emb": torch.randn(4, 5, generator=random), **more
    }  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_half_precision_is_torchs_in_double(masked):
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
    attend = (torch.arange(9) < 7).expand(2, 1, 1, 9) if masked else None
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=attend)
    torch.testing.assert_close(attention(q, k, v, attend).double(), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(
        attention(q.float(), k.float(), v.float(), attend).double(), expected, rtol=1e-5, atol=1e-5
    )


def test_a_mask_that_hides_nothing_is_dropped_and_changes_nothing():
    module = TransitionModule(TINY, Optimiser(1e-3)).eval()
    with_mask = batch(mask=torch.ones(4, 6, dtype=torch.bool))
    dropped = module.on_before_batch_transfer(with_mask, 0)
    assert "mask" in with_mask
    assert "mask" not in dropped
    torch.testing.assert_close(module.training_step(dropped, 0)["loss"], module.training_step(with_mask, 0)["loss"])


def test_a_mask_that_hides_a_cell_stays():
    module = TransitionModule(TINY, Optimiser(1e-3))
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[2, 5] = False
    assert module.on_before_batch_transfer(batch(mask=mask), 0)["mask"] is mask


def test_the_fused_optimiser_steps_as_the_plain_one():
    fused = TransitionModule(TINY, Optimiser(1e-2, weight_decay=0.1)).eval()
    plain = copy.deepcopy(fused)
    steps = fused.configure_optimizers()["optimizer"]
    assert steps.defaults["fused"]
    reference = torch.optim.AdamW(parameter_groups(plain, 0.1), lr=1e-2, foreach=False, fused=False)
    for module, optimiser in ((fused, steps), (plain, reference)):
        for _ in range(5):
            module.training_step(batch(), 0)["loss"].backward()
            optimiser.step()
            optimiser.zero_grad()
    for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_bf16_learns_what_single_precision_learns():
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        module = TransitionModule(TINY, Optimiser(3e-3)).eval()
        steps = module.configure_optimizers()["optimizer"]
        for _ in range(200):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                loss = module.training_step(batch(), 0)["loss"]
            loss.backward()
            steps.step()
            steps.zero_grad()
        losses[precision] = loss.item()
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)
