"""One progress bar for everything that takes more than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

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

    console = Console(stderr=True)
    yield from rich.progress.track(
        items, description, total=total, console=console, disable=not console.is_terminal, transient=True
    )
