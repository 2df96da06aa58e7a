"""``stateshift protein …``: from sequences to embeddings, and what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Protein embeddings: residues and whole proteins.", no_args_is_help=True)


@app.command()
def embed(
    fasta: Annotated[Path, typer.Argument(help="Protein sequences, plain or gzipped.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".h5: a store; .pkl: a dict of numpy arrays.")],
    level: Annotated[str, typer.Option(help="residue, protein or both.")] = "protein",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="An ESM2 name, a .pt file or a Hugging Face folder; default the embedded demo model."),
    ] = None,
    layer: Annotated[int, typer.Option(help="0 to the last; negative ones count from the end.")] = -1,
    pooling: Annotated[str, typer.Option(help="mean, mean_bos_eos, cls, max or weighted.")] = "mean",
    weights: Annotated[Path | None, typer.Option(help="For weighted: a csv of id, position, weight.")] = None,
    engine: Annotated[str, typer.Option(help="stateshift or fair-esm.")] = "stateshift",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: what the processor gains by.")] = "auto",
    half: Annotated[bool, typer.Option("--half", help="Store residue rows as float16.")] = False,
    tokens_per_batch: Annotated[int, typer.Option(help="Most tokens in a batch, padding included.")] = 2048,
    devices: Annotated[int, typer.Option(help="GPUs of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
) -> None:
    """Embed the proteins of a FASTA file; the same command goes on after a kill."""
    from stateshift.proteins.embed_file import embed_fasta

    embedded = embed_fasta(
        fasta,
        output,
        level=level,
        checkpoint=checkpoint,
        layer=layer,
        pooling=pooling,
        weights=weights,
        engine=engine,
        precision=precision,
        half=half,
        tokens_per_batch=tokens_per_batch,
        devices=devices,
        nodes=nodes,
    )
    if embedded:
        typer.echo(f"{embedded.path}: {embedded.ids} proteins × {embedded.width} values.")
