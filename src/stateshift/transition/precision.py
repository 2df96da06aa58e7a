"""Parts of a model that keep full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A block in which products of tensors on the device of `x` keep their dtype; a device may know no autocast."""
    import torch

    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
