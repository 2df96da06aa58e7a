"""``stateshift evaluate`` and ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(evaluate)
    app.command()(compare)


def evaluate(
    predicted: Annotated[Path, typer.Argument(help="The predicted h5ad.")],
    truth: Annotated[Path, typer.Option(help="The measured h5ad, controls included.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for the tables (CSV).")] = None,
    pert_col: Annotated[
        str | None, typer.Option(help="The truth's obs column of the perturbation; default as predicted.")
    ] = None,
    cell_type_key: Annotated[
        str | None, typer.Option(help="The truth's obs column of the cell type; default as predicted.")
    ] = None,
    control_pert: Annotated[str | None, typer.Option(help="The truth's control; default as predicted.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="The truth's: counts, log1p_1e4 or log1p, where X doesn't tell.")
    ] = None,
    controls: Annotated[
        str,
        typer.Option(help="Predicted effects against the truth's controls, or the prediction's own (as published)."),
    ] = "truth",
    against: Annotated[Path | None, typer.Option(help="A second prediction, for the paired difference.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training effects (h5ad), for the means beside a prediction without baselines.")
    ] = None,
    official: Annotated[
        bool, typer.Option("--official", help="Add cell-eval's DES, PDS, MAE and score (extra `official`).")
    ] = False,
    responses: Annotated[
        bool,
        typer.Option(
            "--responses", help="Add which genes respond: DES, directions, the 2025 score, without the extra."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing tables.")] = False,
) -> None:
    """Score a prediction beside baselines, floor and ceiling, and flag what scores don't say."""
    from stateshift.cli.console import console_for_tables
    from stateshift.evaluation import (
        ceiling_sentences,
        ceilings_table,
        columns_sentence,
        coverage_table,
        flag_sentences,
        interval_sentences,
        official_table,
        responses_table,
        sentences,
        summary_table,
        tiers_table,
    )
    from stateshift.evaluation import evaluate as score

    result = score(
        predicted,
        truth,
        output=output,
        perturbation=pert_col,
        context=cell_type_key,
        control=control_pert,
        scale=scale,
        controls=controls,
        against=against,
        training=training,
        official=official,
        responses=responses,
        overwrite=overwrite,
    )
    console = console_for_tables()
    console.print(summary_table(result))
    console.print(ceilings_table(result))
    console.print(tiers_table(result))
    if "intervals" in result.about:
        console.print(coverage_table(result))
    if official:
        console.print(official_table(result))
    if responses:
        console.print(responses_table(result))
    said = [
        columns_sentence(result),
        *sentences(result),
        *ceiling_sentences(result),
        *interval_sentences(result),
        *result.notes,
    ]
    for sentence in (*said, *flag_sentences(result.flags)):
        console.print(sentence, highlight=False, soft_wrap=True)


def compare(
    source: Annotated[Path, typer.Argument(help="A sweep's folder, or an experiment TOML.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides for the networks: training.max_steps=4000 …")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Effect models, networks, predictions made elsewhere: stack,state_tiny,mine.h5ad; default stack."
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Tables and sources: a.pt,b.pt,onehot; default what \\[features] names.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="0,1,2; default 0.")] = None,
    folds: Annotated[
        str | None, typer.Option(help="Not the test split, but folds of training: T (genes), C (contexts) or J (both).")
    ] = None,
    n_folds: Annotated[int, typer.Option(help="Parts of the genes and of the contexts.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A CSV file of a sweep's rows; an experiment's folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing CSV file.")] = False,
) -> None:
    """Models beside each other: a sweep's runs, or models × features × seeds on one experiment."""
    from stateshift.cli.console import console_for_tables
    from stateshift.evaluation import ExperimentComparison, comparison_table, flag_sentences
    from stateshift.evaluation import compare as compare_models

    comparison = compare_models(
        source,
        overrides or (),
        models=models,
        features=features,
        seeds=seeds,
        folds=folds,
        n_folds=n_folds,
        output=output,
        overwrite=overwrite,
    )
    console = console_for_tables()
    console.print(comparison_table(comparison))
    flags = flag_sentences(comparison.flags) if isinstance(comparison, ExperimentComparison) else []
    for note in (*comparison.notes, *flags):
        console.print(note, highlight=False, soft_wrap=True)
    if isinstance(comparison, ExperimentComparison):
        typer.echo(f"The table, all scores and the plot lie in {comparison.folder}.")
