"""``stateshift rag-esm``: ESM2 that reads a homolog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="ESM2 conditioned on a homolog: data, training, sampling, embeddings.", no_args_is_help=True)
inputs_app = typer.Typer(help="Masked inputs and their contexts, to sample from.", no_args_is_help=True)
app.add_typer(inputs_app, name="inputs")

NewFolder = Annotated[Path, typer.Option("--output", "-o", help="A new folder.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws everything.")]
Checkpoint = Annotated[Path, typer.Option(help="A trained RAG-ESM: a run's folder, a model's, or a published one.")]
Device = Annotated[str | None, typer.Option(help="As torch names it; default: the GPU where there is one.")]
By = Annotated[str, typer.Option(help="alignment, mmseqs or embedding.")]
Database = Annotated[Path, typer.Option(help="A FASTA among which homologs are looked for.")]


@app.command()
def data(
    source: Annotated[
        Path, typer.Argument(help="An a3m, a FASTA with groups, a folder of them, or a data set's folder.")
    ],
    output: NewFolder,
    classes: Annotated[Path | None, typer.Option(help="name<tab>class, of a FASTA without groups.")] = None,
    min_members: Annotated[int, typer.Option(help="Clusters with fewer different sequences are left out.")] = 2,
    max_members: Annotated[int | None, typer.Option(help="Of larger clusters members are drawn.")] = None,
    max_length: Annotated[int, typer.Option(help="Longer proteins are left out.")] = 1024,
    val_share: Annotated[float, typer.Option(help="Of the clusters, for validation.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Clusters of homologs for training, whole ones kept for validation."""
    from stateshift.rag_esm.homologs.data import make_data

    told = make_data(
        source, output, classes=classes, min_members=min_members, max_members=max_members, max_length=max_length,
        val_share=val_share, seed=seed,
    )  # fmt: skip
    for name, number in told.items():
        typer.echo(f"{name.replace('_', ' ')}: {number:,}")


@app.command()
def homologs(
    fasta: Annotated[Path, typer.Argument(help="The proteins.")],
    database: Database,
    output: NewFolder,
    by: By = "alignment",
    top_k: Annotated[int, typer.Option(help="Homologs a protein.")] = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="ESM2 of --by embedding; default: the demo model.")] = None,
) -> None:
    """The homologs of proteins, as contexts for sampling; never a protein itself or its twin."""
    from stateshift.errors import some
    from stateshift.rag_esm.homologs.retrieval import write_homologs

    found = write_homologs(fasta, database, output, by=by, top_k=top_k, checkpoint=checkpoint)
    lonely = [name for name, hits in found.items() if not hits]
    typer.echo(f"{output}: {sum(map(len, found.values())):,} homologs of {len(found) - len(lonely):,} proteins.")
    if lonely:
        typer.echo(f"{len(lonely):,} without a homolog are left out: {some(lonely, 10)}.")


@app.command()
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as in max_steps=2000.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder of `rag-esm data`.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new folder for the run.")] = None,
    preset: Annotated[str, typer.Option(help="Of configs/rag_esm: 8M, base.")] = "8M",
    init_from: Annotated[Path | None, typer.Option(help="A RAG-ESM to start from.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
) -> None:
    """Train; the best by validation perplexity with contexts is kept."""
    from stateshift.rag_esm.training.train import train_rag_esm

    trained = train_rag_esm(data, output, preset=preset, overrides=overrides or [], init_from=init_from, resume=resume)
    told = {k: v for k, v in trained.training.items() if k.startswith(("ppl", "plain"))}
    typer.echo(f"step {trained.training['step']}: " + ", ".join(f"{k} {v:.2f}" for k, v in told.items()))


@inputs_app.command()
def clusters(
    source: Annotated[Path, typer.Argument(help="A file of clusters, as val.jsonl of `rag-esm data`.")],
    output: NewFolder,
    per_cluster: Annotated[int, typer.Option(help="Inputs of each cluster.")] = 1,
    most_clusters: Annotated[int | None, typer.Option(help="Draw so many clusters.")] = None,
    seed: Seed = 0,
) -> None:
    """Fully masked inputs as long as a cluster's members, a member as context."""
    from stateshift.rag_esm.inputs.clusters import cluster_inputs

    pairs = cluster_inputs(source, output, per_cluster=per_cluster, most_clusters=most_clusters, seed=seed)
    typer.echo(f"{output}: {len(pairs):,} pairs.")


@inputs_app.command()
def scaffold(
    fasta: Annotated[Path, typer.Argument(help="The proteins.")],
    motifs: Annotated[Path, typer.Option(help="A table id, start, end; several rows of one id are one motif.")],
    output: NewFolder,
    per_motif: Annotated[int, typer.Option(help="Inputs of each motif.")] = 1,
    shortest: Annotated[int, typer.Option(help="Least residues of an input.")] = 50,
    longest: Annotated[int, typer.Option(help="Most residues of an input.")] = 200,
    seed: Seed = 0,
) -> None:
    """Motifs at random places among masks, their proteins as contexts."""
    from stateshift.rag_esm.inputs.scaffold import scaffold_inputs

    pairs = scaffold_inputs(fasta, motifs, output, per_motif=per_motif, shortest=shortest, longest=longest, seed=seed)
    typer.echo(f"{output}: {len(pairs):,} pairs.")


@app.command()
def sample(
    checkpoint: Checkpoint,
    context: Annotated[Path, typer.Option(help="A FASTA of homologs, one for each input.")],
    output: NewFolder,
    masked: Annotated[Path | None, typer.Option("--input", help="A FASTA; <mask> or - where to fill in.")] = None,
    fixed_length: Annotated[
        int | None, typer.Option("--use-fixed-length-masked-input", help="Instead: so many masks for each context.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Steps.")] = 100,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest; 0: all; 1: the likeliest.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest that reach p together.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Draw what has this share of the likeliest's chance.")] = 0.0,
    temperature: Annotated[float, typer.Option(help="Below 1: closer to the likeliest.")] = 1.0,
    order: Annotated[str, typer.Option(help="random, or entropy: the surest first.")] = "random",
    error_correction: Annotated[str, typer.Option(help="none, prev-unmasked, all-masked or all-residues.")] = "none",
    start_error_correction: Annotated[int, typer.Option(help="From this iteration on.")] = 0,
    mask_probability: Annotated[float, typer.Option(help="Chance of given residues to be masked.")] = 0.0,
    allow_unknown: Annotated[bool, typer.Option("--allow-unknown", help="X may be drawn too.")] = False,
    max_context: Annotated[int, typer.Option(help="Longer contexts are cut.")] = 1024,
    batch_size: Annotated[int, typer.Option(help="Proteins at once.")] = 32,
    save_intermediate_steps: Annotated[bool, typer.Option("--save-intermediate-steps", help="steps.fasta.")] = False,
    compute_perplexities: Annotated[bool, typer.Option("--compute-perplexities", help="Pseudo-perplexities.")] = False,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Fill in masked proteins beside their homologs."""
    from stateshift.rag_esm.sampling.sample import sample as run
    from stateshift.rag_esm.sampling.settings import SamplingSettings

    settings = SamplingSettings(
        iterations, top_k, top_p, min_p, temperature, order, error_correction, start_error_correction,
        mask_probability, allow_unknown, seed,
    )  # fmt: skip
    folder = run(
        checkpoint, output, context=context, masked=masked, fixed_length=fixed_length, settings=settings,
        max_context=max_context, batch_size=batch_size, save_intermediate_steps=save_intermediate_steps,
        compute_perplexities=compute_perplexities, device=device,
    )  # fmt: skip
    typer.echo(f"{folder}: generated.fasta, contexts.fasta, samples.csv.")


@app.command()
def report(
    samples: Annotated[Path, typer.Argument(help="A folder of `rag-esm sample`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html; its table lies beside it.")],
    data: Annotated[Path | None, typer.Option(help="What the model was trained on: tells the nearest of it.")] = None,
) -> None:
    """One page on samples: identities, perplexities, lengths, composition, entropy."""
    from stateshift.rag_esm.sampling.report import report_samples

    typer.echo(f"{output}: {len(report_samples(samples, output, data)):,} proteins.")


@app.command()
def embed(
    fasta: Annotated[Path, typer.Argument(help="The proteins.")],
    checkpoint: Checkpoint,
    database: Database,
    output: Annotated[Path, typer.Option("--output", "-o", help="An .npz: id → array.")],
    by: By = "alignment",
    contexts: Annotated[int, typer.Option(help="Homologs a protein, their rows averaged.")] = 1,
    level: Annotated[str, typer.Option(help="protein or residue.")] = "protein",
    device: Device = None,
) -> None:
    """Embeddings of proteins read beside their homologs."""
    from stateshift.rag_esm.embedding import embed_fasta

    found = embed_fasta(
        checkpoint, fasta, output, database=database, by=by, contexts=contexts, level=level, device=device
    )
    typer.echo(f"{output}: {len(found):,} proteins.")
