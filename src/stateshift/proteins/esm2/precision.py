"""Single precision or bfloat16: what the processor gains by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stateshift.errors import StateshiftError, suggestion

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16")
# narrower models gain nothing by bfloat16
LEAST_WIDTH = 256


def choose_precision(precision: str, device: torch.device, width: int) -> tuple[str, str]:
    """The precision of a model's matrices, and why.

    Norms, sums, softmax and heads are in single precision either way.

    Parameters
    ----------
    precision
        ``fp32``, ``bf16``, or ``auto``: bf16 where the device multiplies it in hardware and the model is
        at least 256 wide.
    device
        Where the model runs.
    width
        D.

    Returns
    -------
    tuple of str
        ``fp32`` or ``bf16``, and a clause for the user.
    """
    if precision not in PRECISIONS:
        raise StateshiftError(f"`{precision}` is no precision{suggestion(precision, PRECISIONS)}.")
    if precision != "auto":
        return precision, "as asked"
    unit = _bfloat16_unit(device)
    if unit is None:
        return "fp32", "the processor has no bfloat16 products"
    if width < LEAST_WIDTH:
        return "fp32", f"a model {width} wide gains nothing by bf16"
    return "bf16", f"the processor has {unit}"


def attention_precision(precision: str, device: torch.device) -> str:
    """The precision of attention beside matrices of `precision`.

    Without AMX a CPU's attention is quicker in fp32: torch's kernel spends more on turning bfloat16 to and fro than
    its products gain (docs/benchmarks.md).
    """
    return "fp32" if device.type == "cpu" and _bfloat16_unit(device) != "AMX" else precision


def _bfloat16_unit(device: torch.device) -> str | None:
    import torch

    if device.type == "cuda":
        return "tensor cores for it" if torch.cuda.get_device_capability(device) >= (8, 0) else None
    if device.type != "cpu":
        return None
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512_BF16" if torch.cpu._is_avx512_bf16_supported() else None
