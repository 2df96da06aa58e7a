"""``stateshift data``: public files listed and fetched, cells prepared and simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Public data by name; cells prepared and simulated.", no_args_is_help=True)


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
        for e in entries().values():
            size = "size unknown" if e.size is None else decimal(e.size)
            console.print(f"[bold]{e.name}[/bold]  {size}{'  (here)' if is_here(e) else ''}", highlight=False)
            console.print(
                f"    {e.what}\n    {e.source}; licence: {e.licence}", highlight=False, soft_wrap=True, markup=False
            )
        return
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
    doubles: Annotated[int, typer.Option(help="Pairs of them perturbed at once, with known interactions.")] = 0,
    cells: Annotated[int, typer.Option(help="Cells in all, up to 1,000,000.")] = 20_000,
    genes: Annotated[int, typer.Option(help="Genes measured, up to 18,080.")] = 2_000,
    batches: Annotated[int, typer.Option(help="Batches, each with cells of every context.")] = 4,
    depth: Annotated[
        float, typer.Option(help="Median counts of a cell over 18,080 genes; fewer get their share.")
    ] = 9_000,
    dispersion: Annotated[float, typer.Option(help="φ in variance = mean + φ · mean².")] = 0.25,
    feature_share: Annotated[
        float, typer.Option(min=0, max=1, help="How much of the variance of effects over targets features tell.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
) -> None:
    """Simulated cells with known effects, of any size, with features and an experiment TOML beside them."""
    from stateshift.cells.simulate import simulate_experiment

    experiment = simulate_experiment(
        output,
        contexts=contexts,
        targets=targets,
        doubles=doubles,
        cells=cells,
        genes=genes,
        batches=batches,
        depth=depth,
        dispersion=dispersion,
        feature_share=feature_share,
        seed=seed,
    )
    typer.echo(f"{output}: {cells:,} cells × {genes:,} genes, simulated. Next: stateshift check {experiment}")


@app.command()
def prepare(
    raw: Annotated[Path, typer.Argument(help="An h5ad file or zarr store with raw counts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .h5ad file to write.")],
    layer: Annotated[str | None, typer.Option(help="The layer that holds the counts, in place of X.")] = None,
    scale: Annotated[str | None, typer.Option(help="counts, where whole numbers are marked as something else.")] = None,
    gene_column: Annotated[
        str | None, typer.Option(help="The var column of gene symbols, or var_names; genes of one name are summed.")
    ] = None,
    pert_col: Annotated[str | None, typer.Option(help="The obs column of the perturbation.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The control's name in it.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The obs column of the cell type.")] = None,
    batch_col: Annotated[str | None, typer.Option(help="The obs column of the batch.")] = None,
    guide_separator: Annotated[
        str | None, typer.Option(help="Perturbations name guides: _ makes TP53 of TP53_1 and TP53_2.")
    ] = None,
    min_genes: Annotated[int, typer.Option(min=0, help="Genes that a cell has at least; 0: no limit.")] = 200,
    min_counts: Annotated[int, typer.Option(min=0, help="Counts that a cell has at least; 0: no limit.")] = 500,
    max_mt: Annotated[
        float, typer.Option(min=0, help="Per cent of a cell's counts in MT- genes at most; 0: no limit.")
    ] = 20.0,
    min_cells_per_gene: Annotated[
        int, typer.Option(min=0, help="Cells that a gene is seen in at least; 0: no limit.")
    ] = 0,
    knockdown_filter: Annotated[
        bool, typer.Option(help="Keep only perturbed cells whose target is knocked down; off for CRISPRa and drugs.")
    ] = True,
    residual_expression: Annotated[
        float, typer.Option(help="A perturbation's mean of its target stays under this share of the controls'.")
    ] = 0.30,
    cell_residual_expression: Annotated[float, typer.Option(help="The same for each of its cells.")] = 0.50,
    min_cells_per_perturbation: Annotated[int, typer.Option(help="Cells that have to be left of it.")] = 30,
    experiment: Annotated[
        Path | None, typer.Option(help="An experiment TOML: highly variable genes come from cells that train by it.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset of the TOML that the output belongs to.")] = None,
    hvg: Annotated[int, typer.Option(min=0, help="Highly variable genes for X_hvg; 0: none.")] = 2000,
    keep_targets: Annotated[
        bool, typer.Option("--keep-targets", help="Put every perturbed gene into X_hvg too.")
    ] = False,
) -> None:
    """Raw counts to what training reads: QC, knock-down filter, log1p of 1e4, highly variable genes, cells grouped."""
    from stateshift.cells.prepare import prepare_cells

    columns = {"perturbation": pert_col, "control": control_pert, "cell_type": cell_type_key, "batch": batch_col}
    made = prepare_cells(
        raw,
        output,
        layer=layer,
        scale=scale,
        gene_column=gene_column,
        columns=columns,
        guide_separator=guide_separator,
        min_genes=min_genes,
        min_counts=min_counts,
        max_mt=max_mt,
        min_cells_per_gene=min_cells_per_gene,
        knockdown_filter=knockdown_filter,
        residual_expression=residual_expression,
        cell_residual_expression=cell_residual_expression,
        min_cells_per_perturbation=min_cells_per_perturbation,
        experiment=experiment,
        dataset=dataset,
        hvg=hvg,
        keep_targets=keep_targets,
    )
    last = made.steps[-1]
    typer.echo(f"{output}: {last.cells:,} cells, log1p of 1e4, {len(made.hvg):,} highly variable genes in X_hvg.")
