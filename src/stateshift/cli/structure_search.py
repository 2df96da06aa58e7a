"""``stateshift structure index|search|cluster|graph``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stateshift.cli.structure_options import given, query_models

if TYPE_CHECKING:
    from stateshift.structure.pipeline import Models
    from stateshift.vector_index import VectorIndex

index_app = typer.Typer(
    help="Indices of vectors: exact, or by a graph (HNSW) from 10,000 on where one pays.", no_args_is_help=True
)

Index = Annotated[Path, typer.Argument(help="The index's folder.")]
Vectors = Annotated[
    str, typer.Argument(help="Vectors (pt, parquet, csv or a folder), structures or a URL, a FASTA or a table.")
]
Metadata = Annotated[Path | None, typer.Option(help="A csv or parquet with a column `name`, told with hits.")]
Neighbours = Annotated[int, typer.Option(help="Neighbours that an entry asks for.")]
Threshold = Annotated[float, typer.Option(help="The least cosine.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``structure``."""
    for command in (search, cluster, graph):
        app.command()(command)


def _tell(folder: Path, index: "VectorIndex") -> None:
    stats = index.stats()
    typer.echo(f"{folder}: {stats['vectors']:,} vectors × {stats['width']}, {stats['kind']}, {stats['megabytes']} MB.")


@index_app.command()
@given(models=query_models)
def build(
    source: Vectors,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    metadata: Metadata = None,
    *,
    models: "Models",
) -> None:
    """Build an index of vectors, or of structures embedded first."""
    from stateshift.structure.search import build_index

    _tell(output, build_index(source, output, models, metadata))


@index_app.command()
@given(models=query_models)
def update(
    index: Index,
    source: Vectors,
    metadata: Metadata = None,
    *,
    models: "Models",
) -> None:
    """Add to an index without building it anew; known names are replaced."""
    from stateshift.structure.search import update_index

    read, new, replaced = update_index(index, source, models, metadata)
    typer.echo(f"{new:,} new, {replaced:,} replaced.")
    _tell(index, read)


@index_app.command()
def stats(index: Index) -> None:
    """What an index holds."""
    from stateshift.vector_index import VectorIndex

    for key, value in VectorIndex.load(index).stats().items():
        typer.echo(f"{key}: {value}")


@given(models=query_models)
def search(
    index: Index,
    query: Vectors,
    output: Annotated[Path, typer.Option("--output", "-o", help="The csv to write.")],
    page: Annotated[Path | None, typer.Option(help="An HTML page with the hits.")] = None,
    top_k: Annotated[int, typer.Option(help="Most hits a query.")] = 100,
    threshold: Threshold = 0.8,
    *,
    models: "Models",
) -> None:
    """Find the entries nearest to structures, sequences or vectors."""
    from stateshift.structure.search import search_index, write_hits, write_page
    from stateshift.vector_index import VectorIndex

    read = VectorIndex.load(index)
    hits = search_index(read, query, top_k, threshold, models)
    write_hits(hits, output)
    if page is not None:
        write_page(hits, page, read.metadata, {"least cosine": threshold, **read.stats()})
    typer.echo(f"{output}: {sum(map(len, hits.values())):,} hits of {len(hits):,} queries.")


def cluster(
    index: Index,
    output: Annotated[Path, typer.Option("--output", "-o", help="The csv to write.")],
    top_k: Neighbours = 20,
    threshold: Threshold = 0.8,
    resolution: Annotated[float, typer.Option(help="Higher: smaller communities.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Makes it repeatable.")] = 0,
) -> None:
    """Communities of the similarity graph, by Louvain."""
    from stateshift.structure.search import cluster_index, write_rows

    found = cluster_index(index, top_k, threshold, resolution, seed)
    write_rows(output, ("Name", "Cluster"), sorted(found.items(), key=lambda item: (item[1], item[0])))
    typer.echo(f"{output}: {len(set(found.values())):,} clusters of {len(found):,} entries.")


def graph(
    index: Index,
    output: Annotated[Path, typer.Option("--output", "-o", help="The csv to write.")],
    top_k: Neighbours = 20,
    threshold: Threshold = 0.8,
) -> None:
    """Edges between entries that are alike, kept from both sides."""
    from stateshift.structure.search import similarity_graph, write_rows

    edges = similarity_graph(index, top_k, threshold)
    write_rows(output, ("Source", "Target", "Score"), [(a, b, f"{score:.6f}") for a, b, score in edges])
    typer.echo(f"{output}: {len(edges):,} edges.")
