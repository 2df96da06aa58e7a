"""``stateshift challenge validate`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The Virtual Cell Challenge.", no_args_is_help=True)

Predicted = Annotated[Path, typer.Argument(help="The predicted h5ad, controls included.")]
SeasonName = Annotated[str, typer.Option(help="The season, as 2025, or a rules.toml.")]
Genes = Annotated[Path, typer.Option(help="The season's gene list, one symbol a line, no header.")]
GeneDim = Annotated[int | None, typer.Option(help="The list's length where it is not the season's (a reduced list).")]
Counts = Annotated[Path | None, typer.Option(help="The season's pert_counts CSV: which targets have to be there.")]
Context = Annotated[str | None, typer.Option(help="The one cell type to take from a prediction of several.")]


@app.command()
def validate(
    predicted: Predicted,
    season: SeasonName,
    genes: Genes,
    expected_gene_dim: GeneDim = None,
    pert_counts: Counts = None,
    context: Context = None,
) -> None:
    """Hold a prediction to a season's rules: every check and its figure."""
    from rich.console import Console

    from stateshift.challenge import validate as hold
    from stateshift.challenge import validation_table

    found = hold(
        predicted, season, genes, expected_gene_dim=expected_gene_dim, pert_counts=pert_counts, context=context
    )
    Console().print(validation_table(found))
    if not found.passed:
        raise typer.Exit(2)


@app.command()
def export(
    predicted: Predicted,
    season: SeasonName,
    genes: Genes,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .vcc file to write.")],
    expected_gene_dim: GeneDim = None,
    pert_counts: Counts = None,
    context: Context = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Check a prediction and write the submission file."""
    from stateshift.challenge import export_submission

    made = export_submission(
        predicted,
        season=season,
        genes=genes,
        output=output,
        expected_gene_dim=expected_gene_dim,
        pert_counts=pert_counts,
        context=context,
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {made.cells:,} cells × {made.genes:,} genes, {made.perturbations} targets.")
    if made.dropped_genes:
        typer.echo(f"{made.dropped_genes:,} predicted genes are not in the season's list and were left out.")
