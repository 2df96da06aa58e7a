"""A console that gives tables the room they need, and takes names in them for names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 10_000
"""Columns of a log or a pipe, which have no edge to keep to."""


def console_for_tables() -> Console:
    """Within the width of a terminal; elsewhere as wide as a table is. Brackets and colons of names are no markup."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    return console
