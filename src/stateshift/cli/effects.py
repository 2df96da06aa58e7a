"""``stateshift effects``: what perturbations did, on average."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Pseudobulk effects: mean shifts of every perturbation in every context.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def estimate(
    source: Annotated[Path, typer.Argument(help="An experiment TOML, or the cells: an h5ad file or zarr store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .h5ad file to write: perturbations × genes.")],
    split: Annotated[
        str | None, typer.Option(help="Only cells of this split of the experiment: train, val or test.")
    ] = None,
    pert_col: Annotated[str | None, typer.Option(help="The obs column of the perturbation.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The control's name in it.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The obs column of the cell type.")] = None,
    batch_col: Annotated[str | None, typer.Option(help="The obs column of the batch.")] = None,
    scale: Annotated[str | None, typer.Option(help="counts, log1p_1e4 or log1p, where X doesn't tell.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the halves that reliability is measured with.")] = 0,
    memory_gb: Annotated[
        float, typer.Option(min=0, help="Matrices larger than this stay on disk, in the cache.")
    ] = 8.0,
    cache: Annotated[Path | None, typer.Option(help="Where matrices too large for memory are kept.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Mean differences and fold changes against batch-matched controls, with errors, shrinkage and reliability."""
    from rich.console import Console

    from stateshift.cells import Storage
    from stateshift.cells.pseudobulk import context_summary, estimate_effects_file, strongest_effects

    columns = {"perturbation": pert_col, "control": control_pert, "cell_type": cell_type_key, "batch": batch_col}
    table = estimate_effects_file(
        source,
        output,
        split=split,
        columns={k: v for k, v in {**columns, "scale": scale}.items() if v is not None},
        seed=seed,
        storage=Storage(memory_gb, cache),
        overwrite=overwrite,
    )
    console = Console()
    legend = "unmatched: cells without controls in their batch; r: reliability, the correlation of two halves"
    headings = ("context", "perturbations", "cells", "unmatched", "r 25 %", "r 50 %", "r 75 %")
    console.print(_shown(f"Effects by context ({legend})", headings, context_summary(table)))
    headings = ("perturbation", "context", "cells", "r", "length", "largest (shrunk)")
    console.print(_shown("Strongest effects", headings, strongest_effects(table)))
    simulated = " of simulated cells" if table.simulated else ""
    typer.echo(f"{output}: {len(table):,} effects{simulated} on {len(table.genes):,} genes, scale {table.scale}.")


def _shown(title: str, headings: tuple[str, ...], frame: pd.DataFrame) -> object:
    from rich.table import Table

    shown = Table(*headings, title=title, title_justify="left")
    for row in frame.itertuples(index=False):
        shown.add_row(*(_text(value) for value in row))
    return shown


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"
