"""``stateshift data``: public files listed and fetched, cells prepared and simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Public data by name; cells prepared and simulated.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Everything about this one.")] = None,
) -> None:
    """The public files that `get` fetches by name: what, size, licence, source, and whether they are here."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from stateshift.catalogue import entries, entry, is_here

    console = Console()
    if name is None:
        shown = Table("name", "what", "size", "licence", "source", "here")
        shown.columns[0].no_wrap = True
        for e in entries().values():
            size = "unknown" if e.size is None else decimal(e.size)
            shown.add_row(e.name, e.what, size, e.licence, e.source.split("/")[2], "yes" if is_here(e) else "")
    else:
        e = entry(name)
        shown = Table(show_header=False, title=e.name)
        shown.add_column(no_wrap=True)
        shown.add_column(overflow="fold")
        for key in ("what", "licence", "citation", "source", "note", "manual"):
            if getattr(e, key):
                shown.add_row(key, getattr(e, key))
        for file in e.files:
            size = "size unknown" if file.size is None else f"{file.size:,} bytes"
            checked = file.checksum or "no checksum published: trusted on first use"
            shown.add_row(file.name, f"{file.url}\n{size}; {checked}")
        shown.add_row("here", "yes" if is_here(e) else "no")
    console.print(shown)


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Names of `stateshift data list`.")],
    to: Annotated[
        Path | None, typer.Option(help="A folder for the files; default the cache ($STATESHIFT_CACHE).")
    ] = None,
) -> None:
    """Fetch public files, or check those that are here; a broken-off download goes on where it stopped."""
    from stateshift.catalogue import entry
    from stateshift.catalogue import get as fetch

    for name in names:
        entry(name)
    for name in names:
        for path in fetch(name, to):
            typer.echo(path)


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .h5ad file to write; its TOML comes beside it.")],
    contexts: Annotated[int, typer.Option(help="Cell types.")] = 4,
    targets: Annotated[int, typer.Option(help="Perturbed genes, each in every context.")] = 50,
    cells: Annotated[int, typer.Option(help="Cells in all, up to 1,000,000.")] = 20_000,
    genes: Annotated[int, typer.Option(help="Genes measured, up to 18,080.")] = 2_000,
    batches: Annotated[int, typer.Option(help="Batches, each with cells of every context.")] = 4,
    depth: Annotated[
        float, typer.Option(help="Median counts of a cell over 18,080 genes; fewer get their share.")
    ] = 9_000,
    dispersion: Annotated[float, typer.Option(help="φ in variance = mean + φ · mean².")] = 0.25,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
) -> None:
    """Simulated cells with known effects, of any size, with features and an experiment TOML beside them."""
    from stateshift.cells.simulate import simulate_experiment

    experiment = simulate_experiment(
        output,
        contexts=contexts,
        targets=targets,
        cells=cells,
        genes=genes,
        batches=batches,
        depth=depth,
        dispersion=dispersion,
        seed=seed,
    )
    typer.echo(f"{output}: {cells:,} cells × {genes:,} genes, simulated. Next: stateshift check {experiment}")
