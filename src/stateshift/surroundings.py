"""What a process shares with code that is not ours: torch's defaults and everybody's random numbers."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""Variables that Lightning leaves for the processes it starts."""


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Work in float32 on the CPU unless told otherwise, whatever a notebook made torch's default; then all is as it was.

    A training seeds Python's, numpy's and torch's generators: what is drawn after it would be the same after each.

    Examples
    --------
    >>> random.seed(1)
    >>> with left_alone():
    ...     random.seed(2)
    >>> random.random() == random.Random(1).random()
    True
    """
    import numpy as np
    import torch

    seeds = {name: os.environ.get(name) for name in SEEDS}
    states, dtype, seed = (random.getstate(), np.random.get_state()), torch.get_default_dtype(), torch.initial_seed()
    with contextlib.ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        drawn, on_gpu = torch.get_rng_state(), torch.cuda.is_initialized()
        of_gpu = torch.cuda.get_rng_state_all() if on_gpu else []
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_rng_state(drawn)
            if on_gpu:
                torch.cuda.set_rng_state_all(of_gpu)
            elif torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(seed)
            random.setstate(states[0])
            np.random.set_state(states[1])
            for name, value in seeds.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
