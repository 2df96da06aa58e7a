"""``stateshift data``: public files listed and fetched, cells prepared and simulated."""

from __future__ import annotations

import typer

app = typer.Typer(help="Public data by name; cells prepared and simulated.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass
