"""``stateshift bioemb …``: codes, training, the baseline, the downstream check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Fine-tune any feature table by naming its genes through a bottleneck.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A YAML file, or a preset: genes, proteins, bbbp.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, as data.table=features.pt.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with a Hugging Face model.")]


@app.command()
def codes(
    table: Annotated[Path, typer.Argument(help="A feature table: .pt, .csv or .tsv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz to write.")],
    k: Annotated[int, typer.Option(help="Centroids a level: 15, 32 or 64.")] = 15,
    max_levels: Annotated[int, typer.Option(min=1, help="The most levels.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the first level.")] = 42,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """A code of its own for every different vector, by residual k-means."""
    from stateshift.bioemb.codes import create_codes, described

    for line in described(create_codes(table, output, k=k, max_levels=max_levels, seed=seed, overwrite=overwrite)):
        typer.echo(line)


@app.command()
def train(
    overrides: Overrides = None,
    config: Config = None,
    resume: Annotated[Path | None, typer.Option(help="Instead: a run whose training was stopped.")] = None,
    trust_remote_code: Trust = False,
) -> None:
    """From one config: encoder or table → codes → trie → training → fine-tuned table."""
    from stateshift.bioemb.training.train import train_bioemb

    trained = train_bioemb(config, overrides or (), resume=resume, trust_remote_code=trust_remote_code)
    shape = trained.model.shape
    typer.echo(f"{trained.folder / 'features.pt'}: {len(trained.table):,} names × {shape.bottleneck} values.")


@app.command("train-mlm")
def train_mlm(
    overrides: Overrides = None,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file, or a preset: proteins, bbbp.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Instead: a run whose training was stopped.")] = None,
    trust_remote_code: Trust = False,
) -> None:
    """The baseline: masked language modelling of the same encoder on the same sequences, then pooled."""
    from stateshift.bioemb.settings import read_settings
    from stateshift.bioemb.training.mlm import train_mlm

    table = train_mlm(config, overrides or (), resume=resume, trust_remote_code=trust_remote_code)
    folder = resume or read_settings(config, overrides or ()).folder
    typer.echo(f"{folder / 'features.pt'}: {len(table):,} names × {table.width} values.")


@app.command()
def evaluate(
    labels: Annotated[Path, typer.Argument(help="A csv or tsv: a name and its label a row.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for scores.csv and scores.png.")],
    run: Annotated[Path | None, typer.Option(help="A finished `stateshift bioemb train`.")] = None,
    table: Annotated[Path | None, typer.Option(help="Instead: a feature table alone.")] = None,
    mlm: Annotated[Path | None, typer.Option(help="A run of train-mlm, or a table, for that row.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of PCA and projection, with --table; default 32.")] = None,
    split: Annotated[str, typer.Option(help="random, grouped or given.")] = "random",
    seeds: Annotated[int, typer.Option(help="Splits and heads, three or more.")] = 3,
    name_column: Annotated[str | None, typer.Option(help="Default: the first column.")] = None,
    label_column: Annotated[str, typer.Option(help="What is to be predicted.")] = "label",
    task_column: Annotated[str | None, typer.Option(help="Rows answer 1 or 0 to the question named there.")] = None,
    group_column: Annotated[str | None, typer.Option(help="What grouped splits keep together.")] = None,
    split_column: Annotated[str | None, typer.Option(help="train, val or test, for a given split.")] = None,
    task: Annotated[str, typer.Option(help="auto, binary, multiclass, regression or calls.")] = "auto",
) -> None:
    """The same head on the raw table, PCA, random projection, MLM, random codes and BioEmb."""
    from rich.table import Table

    from stateshift.bioemb.comparison.evaluate import evaluate_bioemb
    from stateshift.cli.console import console_for_tables

    compared = evaluate_bioemb(
        labels,
        output,
        run=run,
        table=table,
        mlm=mlm,
        width=width,
        split=split,
        seeds=seeds,
        name_column=name_column,
        label_column=label_column,
        task_column=task_column,
        group_column=group_column,
        split_column=split_column,
        task=task,
    )
    shown = Table("table", "width", compared[0].measure, "95 %", "less raw", "95 %")
    for s in compared:
        interval, less = f"{s.low:.3f} to {s.high:.3f}", f"{s.less_raw_low:+.3f} to {s.less_raw_high:+.3f}"
        shown.add_row(s.table, str(s.width), f"{s.mean:.3f}", interval, f"{s.less_raw:+.3f}", less)
    console_for_tables().print(shown)
    typer.echo(f"{output}: scores.csv, scores.png.")
