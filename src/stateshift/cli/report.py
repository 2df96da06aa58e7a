"""``stateshift report`` and ``figure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(help="A run, a folder with runs and evaluations, or predicted cells (h5ad).")]
Prediction = Annotated[Path | None, typer.Option(help="Predicted cells; default those the evaluation names.")]
Truth = Annotated[Path | None, typer.Option(help="Measured cells; default those the evaluation names.")]
PertCol = Annotated[str | None, typer.Option(help="The truth's obs column of the perturbation; default as predicted.")]
CellTypeKey = Annotated[str | None, typer.Option(help="The truth's obs column of the cell type; default as predicted.")]
ControlPert = Annotated[str | None, typer.Option(help="The truth's control; default as predicted.")]
Scale = Annotated[str | None, typer.Option(help="The truth's: counts, log1p_1e4 or log1p, where X doesn't tell.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(report)
    app.command()(figure)


def report(
    source: Source,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: report.html in the folder, or beside the cells.")
    ] = None,
    prediction: Prediction = None,
    truth: Truth = None,
    gene_sets: Annotated[Path | None, typer.Option(help="A GMT file: sets beside the top genes.")] = None,
    pert_col: PertCol = None,
    cell_type_key: CellTypeKey = None,
    control_pert: ControlPert = None,
    scale: Scale = None,
    overwrite: Overwrite = False,
) -> None:
    """One self-contained HTML page: scores, every perturbation, training, intervals, problems."""
    from stateshift.evaluation import write_report

    written = write_report(
        source,
        output or (source if source.is_dir() else source.parent) / "report.html",
        prediction=prediction,
        truth=truth,
        gene_sets=gene_sets,
        columns={"perturbation": pert_col, "cell_type": cell_type_key, "control": control_pert},
        scale=scale,
        overwrite=overwrite,
    )
    typer.echo(f"The report is {written}.")


def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="scores, perturbations, against-baseline, scatter, volcano, calibration, learning-curves or map."
        ),
    ],
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .svg, .png or .pdf file.")],
    perturbation: Annotated[str | None, typer.Option(help="Of scatter and volcano.")] = None,
    context: Annotated[str | None, typer.Option(help="Of scatter and volcano.")] = None,
    prediction: Prediction = None,
    truth: Truth = None,
    pert_col: PertCol = None,
    cell_type_key: CellTypeKey = None,
    control_pert: ControlPert = None,
    scale: Scale = None,
    overwrite: Overwrite = False,
) -> None:
    """One of the report's figures, for a paper."""
    from stateshift.evaluation import write_figure

    written = write_figure(
        name,
        source,
        output,
        perturbation=perturbation,
        context=context,
        prediction=prediction,
        truth=truth,
        columns={"perturbation": pert_col, "cell_type": cell_type_key, "control": control_pert},
        scale=scale,
        overwrite=overwrite,
    )
    typer.echo(f"The figure is {written}.")
