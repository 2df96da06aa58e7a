"""LoRA (Hu et al. 2022) on the transformer, by the peft library: narrow adapters beside weights that stay."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from torch import Tensor, nn

from stateshift.errors import StateshiftError
from stateshift.transition.backbone import SetTransformer


def refuse_without_peft() -> None:
    """Raise a StateshiftError where the peft library is not installed."""
    if find_spec("peft") is None:
        raise StateshiftError('training.lora needs peft, which is not installed: pip install "stateshift[lora]".')


def add_adapters(backbone: SetTransformer, rank: int, alpha: float, dropout: float, targets: Sequence[str]) -> None:
    """Put an adapter beside each targeted linear layer, W x + alpha / rank · B A x; all but the adapters is frozen.

    B starts at zero, so nothing changes until it is trained.

    Parameters
    ----------
    backbone
        The transformer, changed in place.
    rank, alpha, dropout
        Rows of A, the adapters' weight, and the dropout of their input.
    targets
        Names of layers, as ``q_proj``; those that the transformer lacks (cells that see only themselves have no
        queries and keys) are passed over.

    Raises
    ------
    StateshiftError
        It has none of the targets, or peft is not installed.
    """
    refuse_without_peft()
    from peft import LoraConfig, inject_adapter_in_model

    if not any(name.endswith(tuple(targets)) for name, _ in backbone.named_modules()):
        raise StateshiftError(f"training.lora.targets={list(targets)}: this model's transformer has none of them.")
    wanted = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    inject_adapter_in_model(wanted, backbone)


def merged_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a model with adapters as one of a model without: each is added to the weight beside it.

    Parameters
    ----------
    model
        With adapters of `add_adapters`, or without any.
    state
        Its ``state_dict``.
    """
    merged = {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    for name, layer in model.named_modules():
        a, b = (state.get(f"{name}.lora_{side}.default.weight") for side in "AB")
        if a is not None:
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + layer.scaling["default"] * b @ a
    return merged
