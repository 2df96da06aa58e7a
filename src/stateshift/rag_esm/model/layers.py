"""Which layers of the decoder read the context, from the words a user says it with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stateshift.errors import StateshiftError, suggestion

WORDS = ("all", "last", "none", "alternate-2")


def cross_layers(said: str | Sequence[int], layers: int) -> tuple[int, ...]:
    """Numbers of the layers, counted from 0, that a cross-attention block follows.

    Parameters
    ----------
    said
        ``all``, ``last``, ``none``, ``alternate-N`` (every N-th, counted backwards from the last), or numbers:
        ``1,3,5`` or a sequence.
    layers
        Of the ESM2 model.

    Raises
    ------
    StateshiftError
        It is none of these, or the model has no such layer.

    Examples
    --------
    >>> cross_layers("alternate-2", 6), cross_layers("last", 6), cross_layers("0, 4", 6)
    ((1, 3, 5), (5,), (0, 4))
    """
    text = said.strip() if isinstance(said, str) else ",".join(map(str, said)) or "none"
    step = re.fullmatch(r"alternate-([1-9]\d*)", text)
    if text == "all":
        return tuple(range(layers))
    if text == "none":
        return ()
    if text == "last":
        return (layers - 1,)
    if step:
        return tuple(range(layers - 1, -1, -int(step[1])))[::-1]
    if not re.fullmatch(r"\d+(\s*,\s*\d+)*", text):
        raise StateshiftError(
            f"Cross layers `{text}`: say all, last, none, alternate-N or numbers as in 1,3,5{suggestion(text, WORDS)}."
        )
    numbers = tuple(sorted({int(number) for number in text.split(",")}))
    if numbers[-1] >= layers:
        raise StateshiftError(f"Cross layers {text}: the ESM2 model has layers 0 to {layers - 1}.")
    return numbers
