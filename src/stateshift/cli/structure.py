"""``stateshift structure``: structures to vectors, and structures that are alike."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stateshift.cli.structure_options import (
    BatchSize,
    ChainNames,
    Checkpoint,
    Esm3Python,
    FileType,
    Geometry,
    NumWorkers,
    OutputFormat,
    OutputName,
    OutputPath,
    ResidueLocation,
    given,
    models,
    place,
    reading,
)
from stateshift.cli.structure_search import index_app, register
from stateshift.errors import StateshiftError

if TYPE_CHECKING:
    from stateshift.structure.pipeline import Machine, Models, Output, Reading, Summary

app = typer.Typer(help="3D structures: residue tensors, chain and assembly vectors, search.", no_args_is_help=True)
app.add_typer(index_app, name="index")
register(app)

Source = Annotated[
    # a Path would take one slash out of an address
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="A folder, a structure or its URL, a FASTA, or a csv of name, path or URL, chain or assembly, output name.",
    ),
]


def _run(
    level: str,
    source: str | None,
    output: "Output",
    models: "Models",
    reading: "Reading",
    machine: "Machine",
    stored: Path | None = None,
) -> None:
    from stateshift.structure.pipeline import embed

    reading = replace(reading, residue_location=str(stored) if stored else None)
    _tell(embed(level, source, output, models, reading, machine))


def _tell(summary: "Summary | None", may_be_empty: bool = False) -> None:
    if summary is None:
        return
    if summary.failures and not summary.results and not may_be_empty:
        raise StateshiftError(f"{summary.place}: no results, all {len(summary.failures)} failed for the reasons above.")
    failed = f"; {len(summary.failures)} failed, see the .failures.csv" if summary.failures else ""
    typer.echo(f"{summary.place}: {summary.results:,} results{failed}.")


@app.command()
@given(reading=reading, place=place)
def residues(
    source: Source,
    output_path: OutputPath,
    output_name: OutputName = "residues",
    output_format: OutputFormat = "separated",
    file_type: FileType = "pt",
    geometry: Geometry = False,
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    chain_names: ChainNames = "label",
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    *,
    reading: "Reading",
    place: "Machine",
) -> None:
    """Structures to residue tensors, one (L, D) a chain."""
    from stateshift.structure.pipeline import Models, Output

    output = Output(output_path, output_name, output_format, file_type)
    machine = replace(place, batch_size=batch_size, num_workers=num_workers)
    made_by = Models(checkpoint, geometry, esm3_python)
    _run("residues", source, output, made_by, replace(reading, chain_names=chain_names), machine)


@app.command()
@given(models=models, reading=reading, place=place)
def chains(
    output_path: OutputPath,
    source: Source = None,
    residue_location: ResidueLocation = None,
    output_name: OutputName = "chains",
    output_format: OutputFormat = "separated",
    file_type: FileType = "csv",
    chain_names: ChainNames = "label",
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    *,
    models: "Models",
    reading: "Reading",
    place: "Machine",
) -> None:
    """Structures, or stored residue tensors, to a vector a chain."""
    from stateshift.structure.pipeline import Output

    output = Output(output_path, output_name, output_format, file_type)
    machine = replace(place, batch_size=batch_size, num_workers=num_workers)
    _run("chains", source, output, models, replace(reading, chain_names=chain_names), machine, residue_location)


@app.command()
@given(models=models, reading=reading, place=place)
def assemblies(
    source: Source,
    output_path: OutputPath,
    residue_location: ResidueLocation = None,
    output_name: OutputName = "assemblies",
    output_format: OutputFormat = "separated",
    file_type: FileType = "csv",
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    *,
    models: "Models",
    reading: "Reading",
    place: "Machine",
) -> None:
    """Structures to a vector a biological assembly."""
    from stateshift.structure.pipeline import Output

    output = Output(output_path, output_name, output_format, file_type)
    machine = replace(place, batch_size=batch_size, num_workers=num_workers)
    _run("assemblies", source, output, models, reading, machine, residue_location)


@app.command()
@given(models=models, reading=reading, place=place)
def embed(
    source: Source,
    output_path: OutputPath,
    output_name: OutputName = "embeddings",
    file_type: FileType = "parquet",
    chain_names: ChainNames = "label",
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    *,
    models: "Models",
    reading: "Reading",
    place: "Machine",
) -> None:
    """Structures straight to chain vectors in one data frame."""
    from stateshift.structure.pipeline import Output

    output = Output(output_path, output_name, "grouped", file_type)
    machine = replace(place, batch_size=batch_size, num_workers=num_workers)
    _run("chains", source, output, models, replace(reading, chain_names=chain_names), machine)


@app.command()
@given(models=models, reading=reading, place=place)
def complete(
    source: Source,
    residues_path: Annotated[Path, typer.Option(help="The folder for residue tensors.")],
    chains_path: Annotated[Path, typer.Option(help="The folder for chain vectors.")],
    assemblies_path: Annotated[Path, typer.Option(help="The folder for assembly vectors.")],
    residues_name: Annotated[str, typer.Option(help="Of the record of residues.")] = "residues",
    chains_name: Annotated[str, typer.Option(help="Of the record, or the grouped file, of chains.")] = "chains",
    assemblies_name: Annotated[str, typer.Option(help="The same of assemblies.")] = "assemblies",
    residues_batch_size: BatchSize = 8,
    chains_batch_size: BatchSize = 32,
    assemblies_batch_size: BatchSize = 8,
    residues_num_workers: NumWorkers = 0,
    chains_num_workers: NumWorkers = 0,
    assemblies_num_workers: NumWorkers = 0,
    output_format: OutputFormat = "separated",
    file_type: FileType = "csv",
    *,
    models: "Models",
    reading: "Reading",
    place: "Machine",
) -> None:
    """Residue tensors, chain vectors and assembly vectors in one go."""
    from stateshift.structure.pipeline import Output, Stage, embed_complete

    summaries = embed_complete(
        source,
        Stage(Output(residues_path, residues_name), residues_batch_size, residues_num_workers),
        Stage(Output(chains_path, chains_name, output_format, file_type), chains_batch_size, chains_num_workers),
        Stage(
            Output(assemblies_path, assemblies_name, output_format, file_type),
            assemblies_batch_size,
            assemblies_num_workers,
        ),
        models,
        reading,
        place,
    )
    for level, summary in summaries.items():
        # predicted models describe no assembly
        _tell(summary, may_be_empty=level == "assemblies")


@app.command()
@given(place=place)
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="The aggregator's file.")],
    structures: Annotated[
        str | None, typer.Option(help="A folder, or a table of chains; else the first of each.")
    ] = None,
    fasta: Annotated[Path | None, typer.Option(help="Instead: sequences.")] = None,
    residue_location: ResidueLocation = None,
    pairs: Annotated[Path | None, typer.Option(help="A table a,b,tm; default: TM-scores of the structures.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Instead: a table of name and SCOP or CATH code.")] = None,
    val_pairs: Annotated[Path | None, typer.Option(help="A table a,b,tm that chooses the checkpoint.")] = None,
    checkpoint: Checkpoint = None,
    geometry: Geometry = False,
    hidden: Annotated[int | None, typer.Option(help="Width of the vectors; default ESM2's.")] = None,
    layers: Annotated[int, typer.Option(help="Transformer layers.")] = 6,
    blocks: Annotated[int, typer.Option(help="Residual blocks after the sum.")] = 12,
    dropout: Annotated[float, typer.Option(help="In training.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Two of them warm up.")] = 20,
    pairs_per_epoch: Annotated[int, typer.Option(help="Drawn, every interval of 0.1 alike often.")] = 2000,
    pairs_per_level: Annotated[int, typer.Option(help="Pairs made of each level of classes.")] = 2000,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The peak; 1e-5 at the published size.")] = 1e-4,
    val_share: Annotated[float, typer.Option(help="Of the chains, kept for validation.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Draws pairs, validation and first weights.")] = 0,
    *,
    place: "Machine",
) -> None:
    """Train an aggregator to structural similarity; the best by validation PR-AUC is kept."""
    from stateshift.structure.training import TrainingSettings
    from stateshift.structure.training.from_files import train_from_files

    settings = TrainingSettings(
        hidden=hidden, layers=layers, blocks=blocks, dropout=dropout, epochs=epochs, pairs_per_epoch=pairs_per_epoch,
        batch_size=batch_size, learning_rate=learning_rate, val_share=val_share, seed=seed,
    )  # fmt: skip
    trained = train_from_files(
        output, structures=structures, fasta=fasta, residue_location=residue_location, pairs=pairs, classes=classes,
        val_pairs=val_pairs, checkpoint=checkpoint, geometry=geometry, pairs_per_level=pairs_per_level,
        settings=settings, trainer_options=place.trainer_options(),
    )  # fmt: skip
    typer.echo(f"{output}: PR-AUC {trained.training['val_pr_auc']:.3f} in validation, step {trained.training['step']}.")
