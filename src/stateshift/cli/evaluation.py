"""``stateshift evaluate``, ``compare`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(evaluate)
    app.command()(compare)
    app.command()(report)


def evaluate(
    predicted: Annotated[Path, typer.Argument(help="The predicted h5ad.")],
    truth: Annotated[Path, typer.Option(help="The measured h5ad, controls included.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for the tables (CSV).")] = None,
    pert_col: Annotated[str | None, typer.Option(help="The truth's obs column of the perturbation.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The truth's obs column of the cell type.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The truth's control.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="The truth's: counts, log1p_1e4 or log1p, where X doesn't tell.")
    ] = None,
    official: Annotated[
        bool, typer.Option("--official", help="Add cell-eval's DES, PDS, MAE and score (extra `official`).")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing tables.")] = False,
) -> None:
    """Score a prediction beside the baselines: Pearson delta, MAE, PDS."""
    from rich.console import Console

    from stateshift.evaluation import evaluate as score
    from stateshift.evaluation import official_table, sentences, summary_table

    result = score(
        predicted,
        truth,
        output=output,
        perturbation=pert_col,
        context=cell_type_key,
        control=control_pert,
        scale=scale,
        official=official,
        overwrite=overwrite,
    )
    console = Console()
    console.print(summary_table(result))
    if official:
        console.print(official_table(result))
    for sentence in (*sentences(result), *result.notes):
        console.print(sentence, highlight=False, soft_wrap=True)


def compare(
    sweep: Annotated[Path, typer.Argument(help="The folder of a sweep (stateshift train EXPERIMENT --multirun …).")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A CSV file for the rows.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """The table of a sweep: one row a combination, mean ± deviation over its seeds."""
    from rich.console import Console

    from stateshift.evaluation import compare as compare_runs
    from stateshift.evaluation import comparison_table

    comparison = compare_runs(sweep, output=output, overwrite=overwrite)
    console = Console()
    console.print(comparison_table(comparison))
    for note in comparison.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def report(
    source: Annotated[Path, typer.Argument(help="A run, or a folder with runs and evaluations.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: report.html in the folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """One self-contained HTML page."""
    from stateshift.evaluation import write_report

    written = write_report(source, output or source / "report.html", overwrite=overwrite)
    typer.echo(f"The report is {written}.")
