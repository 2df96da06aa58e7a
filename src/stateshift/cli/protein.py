"""``stateshift protein …``: from sequences to embeddings, and what they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stateshift.errors import InputProblems, StateshiftError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


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


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A FASTA file, or embeddings: .h5, .npz, .pt, .pkl.")],
    fasta: Annotated[Path | None, typer.Option(help="The sequences that the embeddings should be of.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A csv for the whole table.")] = None,
    rows: Annotated[int, typer.Option(help="Proteins shown.")] = 10,
) -> None:
    """What a file holds: ids, lengths, levels, shapes, invalid residues; no code in it is run."""
    from stateshift.proteins.explore import inspect_proteins

    seen = inspect_proteins(path, fasta)
    if output is not None:
        seen.write_csv(output)
    _show_facts(f"{path} ({seen.kind})", seen.facts)
    if seen.rows:
        _show_rows(seen.columns, seen.rows[:rows])
    if len(seen.rows) > rows:
        typer.echo(f"… and {len(seen.rows) - rows:,} more (--rows, --output)")
    for note in seen.notes:
        typer.echo(note)
    if seen.problems:
        raise InputProblems(str(path), seen.problems)


@app.command()
def pool(
    embeddings: Annotated[Path, typer.Argument(help="Embeddings at both levels: .h5, .npz, .pt, .pkl.")],
    fasta: Annotated[
        Path | None, typer.Option(help="Their sequences, which tell whether rows hold BOS and EOS.")
    ] = None,
) -> None:
    """Recompute protein vectors from their residues, and say which pooling the stored ones are."""
    from stateshift.proteins.explore import pooling_of, read_embeddings
    from stateshift.proteins.fasta import read_sequences

    lengths = {id: len(sequence) for id, sequence in read_sequences(fasta).items()} if fasta else None
    with read_embeddings(embeddings) as held:
        report = pooling_of(held, lengths)
    found = [
        (name, f"{report.differences[name]:.3g}", f"{times:.3g}", report.at[name])
        for name, times in report.beyond_rounding.items()
    ]
    _show_rows(("pooling", "largest difference", "times what rounding explains", "at"), found[:8])
    typer.echo(f"The stored vectors are: {report.verdict}. {report.n_proteins} proteins were compared.")


@app.command()
def mutations(
    fasta: Annotated[Path, typer.Argument(help="The wild type and its mutants; with --scan the wild type is enough.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for tables and pictures.")],
    wt: Annotated[str, typer.Option(help="The wild type's id.")] = "WT",
    embeddings: Annotated[Path | None, typer.Option(help="Stored embeddings of them; default: made here.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="An ESM2 name, a .pt file or a Hugging Face folder; default the demo model.")
    ] = None,
    scan: Annotated[bool, typer.Option("--scan", help="Make every single mutant; goes on after a kill.")] = False,
    score: Annotated[bool, typer.Option("--score", help="Add the masked-marginal log-likelihood.")] = False,
    tokens_per_batch: Annotated[int, typer.Option(help="Most tokens in a batch, padding included.")] = 2048,
) -> None:
    """Call mutants against a wild type, and say how far their embeddings moved."""
    from stateshift.proteins import explore

    made_with = {"wt": wt, "checkpoint": checkpoint, "score": score, "tokens_per_batch": tokens_per_batch}
    if scan:
        if embeddings is not None:
            raise StateshiftError("--scan makes mutants that no stored --embeddings hold: leave one of them out.")
        table = explore.scan(fasta, output, **made_with)
        _show_table(table.sort_values("distance", ascending=False).head(10))
        written = "scan.csv, scan.png, score.png, scan.h5" if score else "scan.csv, scan.png, scan.h5"
        typer.echo(f"{output}: {len(table):,} single mutants, the furthest above; {written}.")
        return
    seen = explore.mutations(fasta, output, embeddings=embeddings, **made_with)
    for table in (seen.table.head(20), seen.thirds):
        _show_table(table)
    for note in seen.notes:
        typer.echo(note)
    typer.echo(f"{output}: {len(seen.table):,} mutants of {wt}; mutations.csv, thirds.csv, mutations.png.")


@app.command("map")
def map_(
    embeddings: Annotated[Path, typer.Argument(help="Stored embeddings: .h5, .npz, .pt, .pkl.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for map.csv, map.png and map.html.")],
    table: Annotated[Path | None, typer.Option(help="A csv or tsv with a column id.")] = None,
    color: Annotated[str | None, typer.Option(help="The column of it that colours the points.")] = None,
) -> None:
    """Draw the first two principal components of protein vectors, as a picture and as a page."""
    from stateshift.proteins.explore import map_proteins

    found = map_proteins(embeddings, output, table=table, color=color)
    for note in found.notes:
        typer.echo(note)
    shares = " and ".join(f"{100 * share:.1f} %" for share in found.explained)
    typer.echo(f"{output}: {len(found.table):,} proteins, {shares} of variance; map.csv, map.png, map.html.")


@app.command()
def toy(folder: Annotated[Path, typer.Argument(help="Where to put toy.fasta and toy.pkl.")]) -> None:
    """A small set to learn on: a made-up protein, its alanine scan, and their embeddings."""
    from stateshift.proteins.explore.toy import copy_toy

    for path in copy_toy(folder):
        typer.echo(path)


def _show_facts(title: str, facts: dict[str, str]) -> None:
    from rich.table import Table

    shown = Table(show_header=False)
    for name, value in facts.items():
        shown.add_row(name, value)
    typer.echo(title)
    _print(shown)


def _show_rows(columns: tuple[str, ...], rows: list[tuple]) -> None:
    from rich.table import Table

    shown = Table()
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*map(str, row))
    _print(shown)


def _print(table: Table) -> None:
    """Brackets are no markup."""
    from stateshift.cli.console import console_for_tables

    console_for_tables().print(table)


def _show_table(table: pd.DataFrame) -> None:
    """Columns that the terminal has room for: what a change's notation says is not said twice."""
    kept = [name for name in table if name not in ("kind", "position", "wt", "mutant")]
    _show_rows(tuple(kept), [tuple(map(_cell, row)) for row in table[kept].itertuples(index=False)])


def _cell(value: object) -> str:
    """A number to four digits, other values as they are, a dash for none."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return "–" if str(value) == "<NA>" else str(value)
