"""``stateshift demo``, ``check`` and ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(demo)
    app.command()(check)
    app.command()(train)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")] = Path("stateshift-demo"),
    seed: Annotated[int, typer.Option(help="Of the simulation, the training and the predictions.")] = 0,
) -> None:
    """The whole job on the embedded data: real control cells, simulated CRISPRi effects."""
    from stateshift.demo import run_demo

    made = run_demo(output, seed)
    typer.echo("Simulated effects on real control cells: this shows the way, not what the model is worth on your data.")
    for sentence in made.sentences():
        typer.echo(sentence)
    for label, path in (
        ("report", made.report),
        ("predictions", made.predictions),
        ("challenge file", made.submission),
        ("run", made.run),
    ):
        typer.echo(f"{label}: {path}")
    typer.echo(f"took {sum(made.seconds.values()):.0f} s")


def check(experiment: Annotated[Path, typer.Argument(help="The experiment TOML.")]) -> None:
    """What was found: files, columns, cells, splits, genes, feature coverage; what a run needs."""
    from stateshift.cli.check_tables import check_tables, needs_table
    from stateshift.cli.console import console_for_tables
    from stateshift.training import check_experiment, experiment_config
    from stateshift.training.resources import run_needs

    found = check_experiment(experiment)
    needs = run_needs(found, experiment_config(found.experiment))
    console = console_for_tables()
    for table in (*check_tables(found), needs_table(needs)):
        console.print(table)
    if found.uncovered is not None:
        covered = len(found.genes) - len(found.uncovered)
        console.print(f"features: {covered} of {len(found.genes)} perturbed genes have a vector", highlight=False)
    notes = [*found.notes, *needs.notes]
    if notes:
        console.print("worth knowing:")
    for note in notes:
        console.print(f"  - {note}", highlight=False, soft_wrap=True)


def train(
    experiment: Annotated[Path | None, typer.Argument(help="The experiment TOML.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides: model=state_sm training.max_steps=40000 …")
    ] = None,
    pert_features: Annotated[Path | None, typer.Option(help="A feature table; wins over \\[features].")] = None,
    pert_col: Annotated[str | None, typer.Option(help="The obs column of the perturbation.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The control's name in it.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The obs column of the cell type.")] = None,
    batch_col: Annotated[str | None, typer.Option(help="The obs column of the batch.")] = None,
    missing: Annotated[
        str | None,
        typer.Option(help="Genes without a vector: error, or drop; of a table that is made here also zero or mean."),
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="A run of ours or of arc-state, or a .ckpt of either, to fine-tune.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where matrices too large for memory are kept.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Where the run's folder goes; default runs.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder; default EXPERIMENT_MODEL.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A run to go on with, instead of an EXPERIMENT.")] = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="A run for every combination: seed=0,1,2 features=onehot,esm2 …")
    ] = False,
) -> None:
    """Train the transition model and fit the effect models of an experiment."""
    from stateshift.errors import StateshiftError
    from stateshift.training import resume as resume_run
    from stateshift.training import sweep
    from stateshift.training import train as train_experiment

    words = list(overrides or [])
    if resume is not None:
        given = {
            "--pert-features": pert_features,
            "--pert-col": pert_col,
            "--control-pert": control_pert,
            "--cell-type-key": cell_type_key,
            "--batch-col": batch_col,
            "--missing": missing,
            "--init-from": init_from,
            "--cache": cache,
            "--output-dir": output_dir,
            "--name": name,
        }
        unused = [flag for flag, value in given.items() if value is not None] + ["--multirun"] * multirun
        if unused:
            raise StateshiftError(f"--resume goes on with what the run was trained on: leave out {', '.join(unused)}.")
        if experiment is not None and "=" not in str(experiment):
            raise StateshiftError(f"--resume takes the experiment that the run keeps: leave out {experiment}.")
        if experiment is not None:
            words.insert(0, str(experiment))
        run = resume_run(resume, words)
    elif experiment is None:
        raise StateshiftError("Name an EXPERIMENT.toml to train, or a run to --resume.")
    else:
        start = sweep if multirun else train_experiment
        run = start(
            experiment,
            words,
            pert_features=pert_features,
            columns={
                "perturbation": pert_col,
                "control": control_pert,
                "cell_type": cell_type_key,
                "batch": batch_col,
            },
            missing=missing,
            init_from=init_from,
            cache=cache,
            output_dir=output_dir,
            name=name,
        )
    if multirun:
        typer.echo(f"The sweep is {run}. Next: stateshift compare {run}")
        return
    if init_from is not None:
        _print_transfer(run)
    typer.echo(f"The run is {run}. Next: stateshift predict {run} --cells CELLS.h5ad --perturb GENES -o predicted.h5ad")


def _print_transfer(run: Path) -> None:
    from rich.table import Table

    from stateshift.cli.console import console_for_tables
    from stateshift.run import open_run
    from stateshift.training.start import read_transfer

    transfer = read_transfer(open_run(run))
    table = Table("part of the model", "", "", title=f"from {transfer.source}", title_justify="left")
    for part in transfer.parts:
        table.add_row(part.name, part.state, part.how)
    console = console_for_tables()
    console.print(table)
    for note in transfer.notes:
        console.print(f"  - {note}", highlight=False, soft_wrap=True)
