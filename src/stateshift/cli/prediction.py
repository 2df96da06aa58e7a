"""``stateshift predict``, ``stateshift join``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(predict)
    app.command("join")(join_predictions)


def predict(
    run: Annotated[list[Path], typer.Argument(help="The run directory; several of other seeds are averaged.")],
    cells: Annotated[Path, typer.Option(help="An h5ad file with control cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The h5ad file to write.")],
    perturb: Annotated[str | None, typer.Option(help="Genes: A,B,A+B, or a file with one a line.")] = None,
    split: Annotated[str | None, typer.Option(help="Instead: every pair of the run's test or val split.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="A cell type to predict in; repeatable; default all with controls.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="transition, or an effect model: stack, forest, bilinear, transfer, additive, ridge, knn, context_mean, mean."
        ),
    ] = "transition",
    features: Annotated[Path | None, typer.Option(help="Vectors of genes that the run's own table lacks.")] = None,
    fasta: Annotated[Path | None, typer.Option(help="Of esm_state: proteins of genes that no table holds.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Of esm_state: the ESM2 model, where it was moved.")] = None,
    missing: Annotated[str, typer.Option(help="Genes without a vector: error, drop or fallback.")] = "error",
    n_cells: Annotated[int | None, typer.Option(min=1, help="Cells a population; default one a control cell.")] = None,
    pert_col: Annotated[str | None, typer.Option(help="The cells' obs column of the perturbation.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The cells' obs column of the cell type.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The cells' control.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the control cells.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Predict perturbed cells, for genes nobody perturbed and cell types nobody treated."""
    from stateshift.prediction import predict as predict_cells

    predict_cells(
        run,
        cells=cells,
        perturb=perturb,
        output=output,
        split=split,
        contexts=context,
        model=model,
        features=features,
        fasta=fasta,
        checkpoint=checkpoint,
        missing=missing,
        n_cells=n_cells,
        columns={"perturbation": pert_col, "cell_type": cell_type_key, "control": control_pert},
        seed=seed,
        overwrite=overwrite,
    )
    next_one = shlex.join(["stateshift", "evaluate", str(output), "--truth", "TRUTH.h5ad"])
    typer.echo(f"The prediction is {output}. Next: {next_one}")


def join_predictions(
    parts: Annotated[list[Path], typer.Argument(help="Predictions of one run for other perturbations or contexts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The h5ad file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Join predictions that were made apart, as on several machines: the file that one prediction would be."""
    from stateshift.prediction import join_predictions as join

    typer.echo(f"The prediction is {join(parts, output, overwrite)}.")
