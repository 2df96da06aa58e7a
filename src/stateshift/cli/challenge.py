"""``stateshift challenge validate`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The Virtual Cell Challenge.", no_args_is_help=True)

Predicted = Annotated[Path, typer.Argument(help="The predicted h5ad.")]
SeasonName = Annotated[str, typer.Option(help="The season, as 2025 or 2026, or a rules.toml.")]
Genes = Annotated[Path, typer.Option(help="The season's gene list, one symbol a line, no header.")]
GeneDim = Annotated[int | None, typer.Option(help="The list's length where it is not the season's (a reduced list).")]
Counts = Annotated[Path | None, typer.Option(help="The season's pert_counts CSV: which targets have to be there.")]
Contexts = Annotated[
    str | None,
    typer.Option(help="Contexts the season wants, as A,B,C, where manifest.json isn't beside the lists; or the one."),
]
Controls = Annotated[Path | None, typer.Option(help="The season's control cells, where the file itself holds none.")]


@app.command()
def validate(
    predicted: Predicted,
    season: SeasonName,
    genes: Genes,
    pert_counts: Counts = None,
    contexts: Contexts = None,
    controls: Controls = None,
    expected_gene_dim: GeneDim = None,
) -> None:
    """Hold a prediction to a season's rules: every check and its figure."""
    from rich.console import Console

    from stateshift.challenge import validate as hold
    from stateshift.challenge import validation_table

    found = hold(
        predicted,
        season,
        genes,
        pert_counts=pert_counts,
        contexts=_names(contexts),
        controls=controls,
        expected_gene_dim=expected_gene_dim,
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
    pert_counts: Counts = None,
    contexts: Contexts = None,
    controls: Controls = None,
    expected_gene_dim: GeneDim = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Check a prediction and write the submission file."""
    from stateshift.challenge import export_submission

    made = export_submission(
        predicted,
        season=season,
        genes=genes,
        output=output,
        pert_counts=pert_counts,
        contexts=_names(contexts),
        controls=controls,
        expected_gene_dim=expected_gene_dim,
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {made.cells:,} cells × {made.genes:,} genes, {made.perturbations} targets.")
    if made.dropped_genes:
        typer.echo(f"{made.dropped_genes:,} predicted genes are not in the season's list and were left out.")
    if made.dropped_controls:
        typer.echo(f"{made.dropped_controls:,} control cells were left out: the season wants none.")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
