"""What is shown on screen: one progress bar for everything that takes more than a moment, and no advice of Lightning's."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a rich progress bar on standard error, silent where that is no terminal.

    Examples
    --------
    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    import rich.progress
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    yield from rich.progress.track(
        items, escape(description), total=total, console=console, disable=not console.is_terminal, transient=True
    )


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's advice on workers, devices and loaders, and what it tells its own developers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning|torch.optim.lr_scheduler")
        yield


@contextlib.contextmanager
def told_how_to_go_on(command: str) -> Iterator[None]:
    """Say what goes on with a work of Lightning's that is stopped; Ctrl-C is Python's KeyboardInterrupt again."""
    try:
        yield
    except SystemExit as ended:
        logger.warning("stopped: go on with  %s", command)
        if isinstance(ended.__context__, KeyboardInterrupt):  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        raise
