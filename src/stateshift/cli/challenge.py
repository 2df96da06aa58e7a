"""``stateshift challenge validate``, ``export`` and ``score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The Virtual Cell Challenge.", no_args_is_help=True)

Predicted = Annotated[
    list[Path], typer.Argument(help="The predicted h5ad; behind it the others of several files of --controls.")
]
SeasonName = Annotated[str, typer.Option(help="The season, as 2025 or 2026, or a rules.toml.")]
Genes = Annotated[Path, typer.Option(help="The season's gene list, one symbol a line, no header.")]
GeneDim = Annotated[int | None, typer.Option(help="The list's length where it is not the season's (a reduced list).")]
Counts = Annotated[Path | None, typer.Option(help="The season's pert_counts CSV or template h5ad: the targets.")]
Contexts = Annotated[
    str | None,
    typer.Option(help="Contexts the season wants, as A,B,C, where manifest.json isn't beside the lists; or the one."),
]
Controls = Annotated[Path | None, typer.Option(help="The season's control cells, to compare the file's with.")]


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
    from stateshift.challenge import validate as hold
    from stateshift.challenge import validation_table
    from stateshift.cli.console import console_for_tables

    found = hold(
        predicted[0],
        season,
        genes,
        pert_counts=pert_counts,
        contexts=_names(contexts),
        controls=_several(controls, predicted[1:]),
        expected_gene_dim=expected_gene_dim,
    )
    console_for_tables().print(validation_table(found))
    if not found.passed:
        raise typer.Exit(2)


@app.command()
def export(
    called: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="A predicted h5ad, or a run directory with --cells; behind it the others of several files of control cells.",
        ),
    ],
    season: SeasonName,
    genes: Genes,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .vcc file to write.")],
    pert_counts: Counts = None,
    contexts: Contexts = None,
    controls: Controls = None,
    cells: Annotated[
        Path | None, typer.Option(help="Of a run: the season's control cells, counts or log1p of them.")
    ] = None,
    model: Annotated[str, typer.Option(help="Of a run: transition, or an effect model.")] = "transition",
    missing: Annotated[str, typer.Option(help="Of a run: genes without a vector: error or fallback.")] = "error",
    features: Annotated[Path | None, typer.Option(help="Of a run: vectors of genes that its table lacks.")] = None,
    n_cells: Annotated[int | None, typer.Option(help="Of a run: cells a target, where nothing else says.")] = None,
    match_significant: Annotated[
        bool, typer.Option(help="Of a run: as many significant genes as training perturbations of that size show.")
    ] = True,
    amplitude: Annotated[
        float, typer.Option(help="Of a run: factor of its effects, as `score RUN --split val --amplitudes` finds it.")
    ] = 1.0,
    unmodelled: Annotated[
        str,
        typer.Option(help="Of a run: genes of the list that it doesn't predict: error, or control (as in controls)."),
    ] = "error",
    seed: Annotated[int, typer.Option(help="Of a run: draws the cells.")] = 0,
    expected_gene_dim: GeneDim = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Check a prediction, or make it from a run, and write the submission file."""
    from stateshift.challenge import export_run, export_submission
    from stateshift.errors import StateshiftError

    given = {
        "season": season,
        "genes": genes,
        "output": output,
        "pert_counts": pert_counts,
        "contexts": _names(contexts),
        "expected_gene_dim": expected_gene_dim,
        "overwrite": overwrite,
    }
    source, others = sources[0], sources[1:]
    if not source.is_dir():
        of_run = "cells model missing features n_cells match_significant amplitude unmodelled seed"
        _refuse(called, of_run, f"only of a run, and {source} is no folder")
        made = export_submission(source, controls=_several(controls, others), **given)
    elif cells is None or pert_counts is None:
        raise StateshiftError(f"{source} is a folder: of a run, name the season's --cells and its --pert-counts.")
    else:
        _refuse(called, "controls", f"only of a predicted file, and {source} is a run, whose --cells they are")
        of_run = {"cells": _several(cells, others), "model": model, "missing": missing, "features": features}
        of_run |= {"n_cells": n_cells, "match_significant": match_significant, "unmodelled": unmodelled, "seed": seed}
        of_run |= {"amplitude": amplitude}
        made = export_run(source, **of_run, **given)
    typer.echo(f"{output}: {made.cells:,} cells × {made.genes:,} genes, {made.perturbations} targets.")
    if made.dropped_genes:
        typer.echo(f"{made.dropped_genes:,} predicted genes are not in the season's list and were left out.")
    if made.dropped_controls:
        typer.echo(f"{made.dropped_controls:,} control cells were left out: the season wants none.")


@app.command()
def score(
    called: typer.Context,
    predicted: Annotated[list[Path], typer.Argument(help="The predicted h5ad, or one a context; or a run directory.")],
    season: Annotated[str, typer.Option(help="2025, of log1p expression, or 2026, of counts.")],
    truth: Annotated[
        list[Path] | None, typer.Option(help="The measured h5ad, controls included; or one a context, repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a run: its held-out targets, val to choose by or test.")] = "test",
    models: Annotated[str | None, typer.Option(help="Of a run: effect models beside it, as mean,stack.")] = None,
    amplitudes: Annotated[str, typer.Option(help="Of a run: factors of its effects, a row each, as 1,1.25,1.5.")] = "1",
    match_significant: Annotated[
        bool, typer.Option(help="Of a run: as many significant genes as training perturbations of that size show.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of a run: draws the cells.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new folder for the tables (CSV).")] = None,
    pert_col: Annotated[str, typer.Option(help="The obs column of the perturbation.")] = "target_gene",
    context_col: Annotated[
        str, typer.Option(help="The obs column of the context; a file without it holds one.")
    ] = "context",
    control_pert: Annotated[str, typer.Option(help="The control's name.")] = "non-targeting",
    anchors: Annotated[
        Path | None, typer.Option(help="2026: an earlier score's folder, to take the ends of the scale from.")
    ] = None,
    controls: Annotated[
        str, typer.Option(help="2025: tested against the truth's controls, or the prediction's own (as published).")
    ] = "truth",
    energy: Annotated[bool, typer.Option("--energy", help="2025: energy distances too (slow).")] = False,
    threads: Annotated[int, typer.Option(help="Threads of the tests.")] = 1,
) -> None:
    """Score a prediction as the season does, to its packages' sixth digit; or a run on its held-out targets."""
    from stateshift.challenge.local import OTHERS, run_score_table, score_run
    from stateshift.cli.console import console_for_tables
    from stateshift.errors import StateshiftError
    from stateshift.evaluation.seasons import score_season, season_sentences, season_table

    console = console_for_tables()
    if len(predicted) == 1 and predicted[0].is_dir():
        of_files = "truth pert_col context_col control_pert anchors controls energy"
        _refuse(called, of_files, f"only of files, and {predicted[0]} is a run, which has its own held-out cells")
        names = OTHERS if models is None else _names(models)
        of_run = {"split": split, "models": names, "amplitudes": _numbers(amplitudes), "seed": seed}
        of_run |= {"match_significant": match_significant, "threads": threads, "output": output}
        console.print(run_score_table(score_run(predicted[0], season, **of_run)))
        if output is not None:
            typer.echo(f"The tables lie in {output}.")
        return
    of_run = "split models amplitudes match_significant seed"
    _refuse(called, of_run, f"only of a run, and {predicted[0]} is no folder")
    if not truth:
        raise StateshiftError("--truth is needed to score files: name the measured h5ad; only a run has its own.")
    found = score_season(
        predicted,
        truth,
        season,
        perturbation=pert_col,
        context=context_col,
        control=control_pert,
        controls=controls,
        anchors=anchors,
        energy=energy,
        threads=threads,
        output=output,
    )
    console.print(season_table(found))
    for sentence in season_sentences(found):
        console.print(sentence, highlight=False, soft_wrap=True)
    if output is not None:
        typer.echo(f"The tables lie in {output}.")


def _refuse(called: typer.Context, names: str, why: str) -> None:
    """One sentence for options that were given and would do nothing."""
    from stateshift.errors import StateshiftError

    given = [n for n in names.split() if called.get_parameter_source(n).name == "COMMANDLINE"]
    if given:
        raise StateshiftError(f"{', '.join('--' + n.replace('_', '-') for n in given)}: {why}.")


def _several(first: Path | None, others: list[Path]) -> Path | list[Path] | None:
    """A file of control cells, and those that a shell's ``bundle/*.h5ad`` sets behind it."""
    from stateshift.errors import StateshiftError

    if others and first is None:
        raise StateshiftError(f"{others[0]} is one too many: one prediction or run at a time.")
    return [first, *others] if others else first


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[float]:
    from stateshift.errors import StateshiftError

    try:
        return [float(word) for word in _names(text)]
    except ValueError:
        raise StateshiftError(f"--amplitudes {text}: numbers are needed, as 1,1.25,1.5.") from None
