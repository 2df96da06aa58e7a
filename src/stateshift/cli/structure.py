"""``stateshift structure``: structures to vectors, and structures that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stateshift.cli.structure_search import index_app, register
from stateshift.errors import StateshiftError

if TYPE_CHECKING:
    from stateshift.structure.pipeline import Machine, Models, Output, Reading, Summary

app = typer.Typer(help="3D structures: residue tensors, chain and assembly vectors, search.", no_args_is_help=True)
app.add_typer(index_app, name="index")
register(app)

Source = Annotated[
    Path | None,
    typer.Argument(
        help="A folder, a structure, a FASTA, or a csv of name, path or URL, chain or assembly, output name."
    ),
]
OutputPath = Annotated[Path, typer.Option(help="The folder for results.")]
OutputName = Annotated[str, typer.Option(help="Names the record, the failures and the grouped file.")]
OutputFormat = Annotated[str, typer.Option(help="separated (a file a result) or grouped (one file).")]
FileType = Annotated[str, typer.Option(help="pt, parquet or csv.")]
StructureFormat = Annotated[str, typer.Option(help="auto, mmcif or pdb.")]
ChainNames = Annotated[str, typer.Option(help="label or author: which names chains have.")]
MinResidues = Annotated[int, typer.Option(min=0, help="Chains with fewer are left out.")]
MaxResidues = Annotated[
    int | None, typer.Option(min=1, help="Chains with more are left out; assemblies stop growing when past it.")
]
BatchSize = Annotated[int, typer.Option(help="Structures a step.")]
NumWorkers = Annotated[int, typer.Option(help="Processes that parse.")]
NumNodes = Annotated[int, typer.Option(help="Machines.")]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, gpu, as Lightning names them.")]
Devices = Annotated[list[str] | None, typer.Option(help="auto, a number, or repeated: indices.")]
Checkpoint = Annotated[str | None, typer.Option(help="An ESM2 name or file; default the embedded demo model.")]
Aggregator = Annotated[Path | None, typer.Option(help="An aggregator; default the embedded demo one.")]
Esm3Python = Annotated[str | None, typer.Option(help="Residues by ESM3: the interpreter of an environment with it.")]
ResidueLocation = Annotated[Path | None, typer.Option(help="A folder of stored residue tensors to use.")]


def _machine(batch_size: int, num_workers: int, num_nodes: int, accelerator: str, devices: list[str] | None) -> Machine:
    from stateshift.structure.pipeline import Machine

    return Machine(batch_size, num_workers, num_nodes, accelerator, tuple(devices or ("auto",)))


def _run(level: str, source: Path | None, output: Output, models: Models, reading: Reading, machine: Machine) -> None:
    from stateshift.structure.pipeline import embed

    _tell(embed(level, source, output, models, reading, machine))


def _tell(summary: Summary | None, may_be_empty: bool = False) -> None:
    if summary is None:
        return
    if summary.failures and not summary.results and not may_be_empty:
        raise StateshiftError(f"{summary.place}: no results, all {len(summary.failures)} failed for the reasons above.")
    failed = f"; {len(summary.failures)} failed, see the .failures.csv" if summary.failures else ""
    typer.echo(f"{summary.place}: {summary.results:,} results{failed}.")


@app.command()
def residues(
    source: Source,
    output_path: OutputPath,
    output_name: OutputName = "residues",
    output_format: OutputFormat = "separated",
    file_type: FileType = "pt",
    geometry: Annotated[bool, typer.Option("--geometry", help="Append dihedrals, contacts, accessibility.")] = False,
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    structure_format: StructureFormat = "auto",
    chain_names: ChainNames = "label",
    min_residues: MinResidues = 0,
    max_residues: MaxResidues = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
) -> None:
    """Structures to residue tensors, one (L, D) a chain."""
    from stateshift.structure.pipeline import Models, Output, Reading

    reading = Reading("residues", structure_format, chain_names, min_residues, max_residues)
    output = Output(output_path, output_name, output_format, file_type)
    machine = _machine(batch_size, num_workers, num_nodes, accelerator, devices)
    _run("residues", source, output, Models(checkpoint, geometry, esm3_python), reading, machine)


@app.command()
def chains(
    output_path: OutputPath,
    source: Source = None,
    residue_location: ResidueLocation = None,
    output_name: OutputName = "chains",
    output_format: OutputFormat = "separated",
    file_type: FileType = "csv",
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    aggregator: Aggregator = None,
    structure_format: StructureFormat = "auto",
    chain_names: ChainNames = "label",
    min_residues: MinResidues = 0,
    max_residues: MaxResidues = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
) -> None:
    """Structures, or stored residue tensors, to a vector a chain."""
    from stateshift.structure.pipeline import Models, Output, Reading

    stored = str(residue_location) if residue_location else None
    reading = Reading("chains", structure_format, chain_names, min_residues, max_residues, residue_location=stored)
    output = Output(output_path, output_name, output_format, file_type)
    models = Models(checkpoint, esm3_python=esm3_python, aggregator=aggregator)
    machine = _machine(batch_size, num_workers, num_nodes, accelerator, devices)
    _run("chains", source, output, models, reading, machine)


@app.command()
def assemblies(
    source: Source,
    output_path: OutputPath,
    residue_location: ResidueLocation = None,
    output_name: OutputName = "assemblies",
    output_format: OutputFormat = "separated",
    file_type: FileType = "csv",
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    aggregator: Aggregator = None,
    structure_format: StructureFormat = "auto",
    min_residues: MinResidues = 0,
    max_residues: MaxResidues = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
) -> None:
    """Structures to a vector a biological assembly."""
    from stateshift.structure.pipeline import Models, Output, Reading

    stored = str(residue_location) if residue_location else None
    reading = Reading("assemblies", structure_format, "label", min_residues, max_residues, residue_location=stored)
    output = Output(output_path, output_name, output_format, file_type)
    models = Models(checkpoint, esm3_python=esm3_python, aggregator=aggregator)
    machine = _machine(batch_size, num_workers, num_nodes, accelerator, devices)
    _run("assemblies", source, output, models, reading, machine)


@app.command()
def embed(
    source: Source,
    output_path: OutputPath,
    output_name: OutputName = "embeddings",
    file_type: FileType = "parquet",
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    aggregator: Aggregator = None,
    structure_format: StructureFormat = "auto",
    chain_names: ChainNames = "label",
    min_residues: MinResidues = 0,
    max_residues: MaxResidues = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = 0,
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
) -> None:
    """Structures straight to chain vectors in one data frame."""
    chains(
        output_path, source, None, output_name, "grouped", file_type, checkpoint, esm3_python, aggregator,
        structure_format, chain_names, min_residues, max_residues, batch_size, num_workers, num_nodes, accelerator,
        devices,
    )  # fmt: skip


@app.command()
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
    checkpoint: Checkpoint = None,
    esm3_python: Esm3Python = None,
    aggregator: Aggregator = None,
    structure_format: StructureFormat = "auto",
    min_residues: MinResidues = 0,
    max_residues: MaxResidues = None,
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
) -> None:
    """Residue tensors, chain vectors and assembly vectors in one go."""
    from stateshift.structure.pipeline import Models, Output, Reading, Stage, embed_complete

    summaries = embed_complete(
        source,
        Stage(Output(residues_path, residues_name), residues_batch_size, residues_num_workers),
        Stage(Output(chains_path, chains_name, output_format, file_type), chains_batch_size, chains_num_workers),
        Stage(
            Output(assemblies_path, assemblies_name, output_format, file_type),
            assemblies_batch_size,
            assemblies_num_workers,
        ),
        Models(checkpoint, esm3_python=esm3_python, aggregator=aggregator),
        Reading(format=structure_format, min_residues=min_residues, max_residues=max_residues),
        _machine(8, 0, num_nodes, accelerator, devices),
    )
    for level, summary in summaries.items():
        # predicted models describe no assembly
        _tell(summary, may_be_empty=level == "assemblies")


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="The aggregator's file.")],
    structures: Annotated[Path | None, typer.Option(help="A folder, or a table of chains; else the first of each.")] = None,
    fasta: Annotated[Path | None, typer.Option(help="Instead: sequences.")] = None,
    residue_location: ResidueLocation = None,
    pairs: Annotated[Path | None, typer.Option(help="A table a,b,tm; default: TM-scores of the structures.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Instead: name<tab>SCOP or CATH code.")] = None,
    val_pairs: Annotated[Path | None, typer.Option(help="A table a,b,tm that chooses the checkpoint.")] = None,
    checkpoint: Checkpoint = None,
    geometry: Annotated[bool, typer.Option("--geometry", help="Append dihedrals, contacts, accessibility.")] = False,
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
    num_nodes: NumNodes = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = None,
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
        settings=settings, trainer_options=_machine(1, 0, num_nodes, accelerator, devices).trainer_options(),
    )  # fmt: skip
    typer.echo(f"{output}: PR-AUC {trained.training['val_pr_auc']:.3f} in validation, step {trained.training['step']}.")
