"""``stateshift features …`` and ``create_esm_pert_features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Perturbation features: gene → vector.", no_args_is_help=True)


@app.command()
def create(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .pt file to write.")],
    from_toml: Annotated[Path | None, typer.Option(help="Every gene that the experiment's datasets perturb.")] = None,
    gene_list: Annotated[Path | None, typer.Option(help="Instead: a file with one symbol a line.")] = None,
    source: Annotated[
        str,
        typer.Option(
            help="esm2, table, gene_sets, network, symbol, expression, screen, structure, rag_esm, bioemb, onehot, random, or another package's."
        ),
    ] = "esm2",
    fasta: Annotated[Path | None, typer.Option(help="Protein sequences with GN= symbols.")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="An ESM2 name, .pt file or Hugging Face folder (structure: an aggregator); default the demo model."
        ),
    ] = None,
    layer: Annotated[int, typer.Option(help="ESM2's layer; negative ones count from the end.")] = -1,
    pooling: Annotated[str, typer.Option(help="Of ESM2's residues: mean, mean_bos_eos, cls or max.")] = "mean",
    lookup: Annotated[
        Path | None, typer.Option(help="What a source reads: a table, gene sets (GMT), edges, cells or effects.")
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="The most columns of a source that reduces.")] = 512,
    aliases: Annotated[
        Path | None, typer.Option(help="HGNC's table, for aliases, old symbols and Ensembl ids.")
    ] = None,
    coverage: Annotated[
        Path | None, typer.Option(help="A csv to write: each gene's protein, or why it has none.")
    ] = None,
    missing: Annotated[str, typer.Option(help="Genes without a vector: error, zero, mean or drop.")] = "error",
    transductive: Annotated[
        bool, typer.Option("--transductive", help="bioemb: fit all genes, those too that --from-toml holds out.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Make the table of perturbation features (ESM2: by default the mean over the protein's residues)."""
    from stateshift.features import create_features

    table = create_features(
        from_toml=from_toml,
        gene_list=gene_list,
        source=source,
        fasta=fasta,
        checkpoint=checkpoint,
        layer=layer,
        pooling=pooling,
        lookup=lookup,
        width=width,
        aliases=aliases,
        coverage=coverage,
        missing=missing,
        transductive=transductive,
        output=output,
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {len(table)} genes × {table.width} values.")


@app.command()
def fuse(
    tables: Annotated[list[Path], typer.Argument(help="Two or more tables: .pt, .csv, .tsv, .npz or .h5ad.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .pt file to write.")],
    weights: Annotated[
        str | None, typer.Option(help="One number a table, as 0.7,0.3: its share of a gene's similarity to another.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Reduce to at most so many columns.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Put several tables side by side: standardised, weighed, and reduced where wanted."""
    from stateshift.features import fuse_features

    fused = fuse_features(tables, output, weights=weights, width=width, overwrite=overwrite)
    for part in fused.provenance["parts"]:
        constant = part["constant_columns"]
        left_out = f", {constant:,} constant column{'s' if constant > 1 else ''} left out" if constant else ""
        typer.echo(
            f"{part['file']}: {part['genes']:,} genes ({part['coverage']:.0%}), weight {part['weight']:.2f}{left_out}."
        )
    typer.echo(f"{output}: {len(fused):,} genes × {fused.width} values.")


@app.command()
def ablate(
    tables: Annotated[list[Path], typer.Argument(help="A fused table, or several tables.")],
    experiment: Annotated[Path | None, typer.Option(help="Measure on the effects of its training cells.")] = None,
    calls: Annotated[Path | None, typer.Option(help="Or on the training rows of a table of calls or values.")] = None,
    response_features: Annotated[Path | None, typer.Option(help="Of the response genes, for models of calls.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What reads the features: ridge (default), knn, stack …; of calls neighbours.")
    ] = None,
    aliases: Annotated[
        Path | None, typer.Option(help="HGNC's table: one gene under two names is one, for calls.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A CSV file for the rows.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """What each source is worth: left out, its genes shuffled, alone; on training targets held out, never on the test split."""
    from stateshift.cli.console import console_for_tables
    from stateshift.evaluation import ablate_features, ablation_table

    found = ablate_features(
        tables,
        experiment=experiment,
        calls=calls,
        response_features=response_features,
        model=model,
        aliases=aliases,
        output=output,
        overwrite=overwrite,
    )
    console_for_tables().print(ablation_table(found))


@app.command()
def inspect(table: Annotated[Path, typer.Argument(help="A .pt feature table.")]) -> None:
    """What a table holds: genes, width, source, and what is missing."""
    from rich.table import Table

    from stateshift.cli.console import console_for_tables
    from stateshift.errors import some, visible
    from stateshift.feature_table import FeatureTable

    read = FeatureTable.load(table)
    shown = Table(show_header=False, title=str(table))
    shown.add_row("genes", f"{len(read):,} ({', '.join(read.genes[:5])} …)")
    shown.add_row("width", str(read.width))
    for key, value in read.provenance.items():
        if isinstance(value, dict | list):
            named = [f"{k} ({v})" for k, v in value.items()] if isinstance(value, dict) else value
            value = f"{len(value)}: {some(named, 12)}" if value else "none"
        shown.add_row(visible(key), visible(str(value)))
    console_for_tables().print(shown)


def run_create_esm_pert_features() -> None:
    """The console script ``create_esm_pert_features`` (= ``stateshift features create``)."""
    from stateshift.cli.main import call

    call(lambda: typer.run(create))
