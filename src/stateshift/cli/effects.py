"""``stateshift effects``: what perturbations did, on average."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    help="What perturbations did, from cells or from tables, and what others would do.", no_args_is_help=True
)


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
    from stateshift.cells import Storage
    from stateshift.cells.pseudobulk import context_summary, estimate_effects_file, strongest_effects
    from stateshift.cli.console import console_for_tables

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
    console = console_for_tables()
    legend = "unmatched: cells without controls in their batch; r: reliability, the correlation of two halves"
    headings = ("context", "perturbations", "cells", "unmatched", "r 25 %", "r 50 %", "r 75 %")
    console.print(_shown(f"Effects by context ({legend})", headings, context_summary(table)))
    headings = ("perturbation", "context", "cells", "r", "length", "largest (shrunk)")
    console.print(_shown("Strongest effects", headings, strongest_effects(table)))
    simulated = " of simulated cells" if table.simulated else ""
    typer.echo(f"{output}: {len(table):,} effects{simulated} on {len(table.genes):,} genes, scale {table.scale}.")


@app.command()
def fit(
    calls: Annotated[Path, typer.Argument(help="A table: perturbation, gene, label or value, perhaps context, split.")],
    features: Annotated[Path, typer.Option(help="A feature table of the perturbed genes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    response_features: Annotated[Path | None, typer.Option(help="A feature table of the response genes.")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="stack, or of strength, neighbours, smoother, bilinear, transfer, forest, ridge, knn, additive, "
            "context_mean, mean: one, or several parted by commas."
        ),
    ] = "stack",
    regime: Annotated[str, typer.Option(help="T: tested targets train nowhere; C: they may in other contexts.")] = "T",
    aliases: Annotated[Path | None, typer.Option(help="HGNC's table: one gene under two names is one.")] = None,
    in_context: Annotated[str, typer.Option(help="The context of a table that names none.")] = "unnamed",
) -> None:
    """Fit an effect model on calls (0/1) or values; weights are chosen on inner folds that hold genes out."""
    from stateshift.effects.calls import fit_effects

    fitted = fit_effects(
        calls,
        features,
        output,
        response_features=response_features,
        model=model,
        regime=regime,
        aliases=aliases,
        in_context=in_context,
    )
    typer.echo(f"{output}: {len(fitted.train):,} perturbations in their contexts × {len(fitted.train.genes):,} genes.")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder of `effects fit`.")],
    perturb: Annotated[Path, typer.Option(help="A file of perturbations, one a line; A+B is a double.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .csv to write.")],
    context: Annotated[str | None, typer.Option(help="One training context; default all of them.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Predict every response gene: a probability where labels were fitted, else a value."""
    from stateshift.effects.calls import predict_effects

    frame = predict_effects(model, perturb, output, context=context, overwrite=overwrite)
    of_pair = frame.drop_duplicates(["perturbation", "context"])["route"].value_counts()
    routes = ", ".join(f"{route} {n:,}" for route, n in of_pair.items())
    typer.echo(f"{output}: {len(frame):,} rows; perturbations in their contexts by route: {routes}.")


@app.command()
def score(
    scores: Annotated[Path, typer.Argument(help="A .csv of `effects predict`.")],
    truth: Annotated[Path, typer.Argument(help="The table of calls or values.")],
    split: Annotated[str, typer.Option(help="Which of its rows: train, val or test.")] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples of the interval.")] = 0,
) -> None:
    """AUC per response gene of calls, Pearson per perturbation of values, with an interval over perturbations."""
    from stateshift.cli.console import console_for_tables
    from stateshift.effects.calls import score_effects

    headings = ("context", "metric", "score", "low", "high", "averaged", "pairs")
    console_for_tables().print(
        _shown(f"{scores} against {truth}, {split}", headings, score_effects(scores, truth, split=split, seed=seed))
    )


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
