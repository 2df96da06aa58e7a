"""Options that several commands of ``stateshift structure`` share, and what is made of them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Checkpoint = Annotated[str | None, typer.Option(help="An ESM2 name or file; default the embedded demo model.")]
Aggregator = Annotated[Path | None, typer.Option(help="An aggregator; default the embedded demo one.")]
Esm3Python = Annotated[str | None, typer.Option(help="Residues by ESM3: the interpreter of an environment with it.")]
ResidueLocation = Annotated[Path | None, typer.Option(help="A folder of stored residue tensors to use.")]
Geometry = Annotated[bool, typer.Option("--geometry", help="Append dihedrals, contacts, accessibility.")]
OutputPath = Annotated[Path, typer.Option(help="The folder for results.")]
OutputName = Annotated[str, typer.Option(help="Names the record, the failures and the grouped file.")]
OutputFormat = Annotated[str, typer.Option(help="separated (a file a result) or grouped (one file).")]
FileType = Annotated[str, typer.Option(help="pt, parquet or csv.")]
ChainNames = Annotated[str, typer.Option(help="label or author: which names chains have.")]
BatchSize = Annotated[int, typer.Option(help="Structures a step.")]
NumWorkers = Annotated[int, typer.Option(help="Processes that parse.")]


def models(checkpoint: Checkpoint = None, esm3_python: Esm3Python = None, aggregator: Aggregator = None):
    """What makes vectors."""
    from stateshift.structure.pipeline import Models

    return Models(checkpoint, esm3_python=esm3_python, aggregator=aggregator)


def query_models(checkpoint: Checkpoint = None, aggregator: Aggregator = None):
    """What makes the vectors of an index and of its queries."""
    return models(checkpoint, None, aggregator)


def reading(
    structure_format: Annotated[str, typer.Option(help="auto, mmcif or pdb.")] = "auto",
    min_residues: Annotated[int, typer.Option(min=0, help="Chains with fewer are left out.")] = 0,
    max_residues: Annotated[
        int | None, typer.Option(min=1, help="Chains with more are left out; assemblies stop growing when past it.")
    ] = None,
):
    """How structures are read."""
    from stateshift.structure.pipeline import Reading

    return Reading(format=structure_format, min_residues=min_residues, max_residues=max_residues)


def place(
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, as Lightning names them.")] = "auto",
    devices: Annotated[list[str] | None, typer.Option(help="auto, a number, or repeated: indices.")] = None,
):
    """Where it runs, whatever its batches."""
    from stateshift.structure.pipeline import Machine

    return Machine(num_nodes=num_nodes, accelerator=accelerator, devices=tuple(devices or ("auto",)))


def given(**made: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of functions like those above, and it the values that they make of them.

    Parameters
    ----------
    made
        Name of the command's keyword → the function whose parameters are options.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name not in made]
        of = {name: list(inspect.signature(function).parameters.values()) for name, function in made.items()}

        @functools.wraps(command)
        def run(**options: Any) -> None:
            values = {name: made[name](**{p.name: options.pop(p.name) for p in of[name]}) for name in made}
            command(**options, **values)

        listed = [p.replace(kind=p.KEYWORD_ONLY) for p in [*own, *(p for several in of.values() for p in several)]]
        run.__signature__ = inspect.Signature(listed)
        run.__annotations__ = {p.name: p.annotation for p in listed}
        return run

    return decorated
