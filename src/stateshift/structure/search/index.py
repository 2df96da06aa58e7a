"""Indices of structures: built from vectors, from structures or sequences, and grown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError, first_line, some, suggestion
from stateshift.files import read_csv, refuse_parquet_without_pyarrow
from stateshift.progress import track
from stateshift.structure.parsing.files import SUFFIXES
from stateshift.structure.pipeline import Models, read_vectors
from stateshift.structure.pipeline.commands import DEMO_AGGREGATOR, vectors_identity
from stateshift.structure.pipeline.jobs import read_jobs
from stateshift.structure.pipeline.loading import JobData, Reading
from stateshift.structure.residues import Esm2Residues
from stateshift.vector_graph import faiss_module
from stateshift.vector_index import VectorIndex

logger = logging.getLogger(__name__)

TABLES = (".pt", ".parquet")
BATCH = 16


def build_index(
    source: str | Path,
    output: str | Path,
    models: Models | None = None,
    metadata: str | Path | None = None,
) -> VectorIndex:
    """Build an index.

    Parameters
    ----------
    source
        Vectors (a file or folder of `read_vectors`), or what `read_jobs` takes, embedded first.
    output
        The index's folder.
    models
        What embeds; also for queries by structure later.
    metadata
        A csv or parquet with a column ``name`` and whatever is to be told of hits.

    Raises
    ------
    StateshiftError
        The source can't be used or the folder isn't empty.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise StateshiftError(f"{output} exists already: choose another folder, or `index update` it.")
    # what is absent is told before a proteome is embedded
    faiss_module()
    refuse_parquet_without_pyarrow(output / "entries.parquet")
    vectors, about = vectors_of(source, models or Models())
    index = VectorIndex(len(next(iter(vectors.values()))), about)
    index.add(vectors, _metadata(metadata, vectors))
    index.save(output)
    return index


def update_index(
    index: str | Path,
    source: str | Path,
    models: Models | None = None,
    metadata: str | Path | None = None,
) -> tuple[VectorIndex, int, int]:
    """Add to an index, known names replaced; the index, how many were new, how many replaced."""
    read = VectorIndex.load(index)
    vectors, about = vectors_of(source, models or Models())
    _same_models(read, about, str(index))
    new, replaced = read.add(vectors, _metadata(metadata, vectors))
    read.save(index)
    return read, new, replaced


def search_index(
    index: str | Path | VectorIndex,
    query: str | Path,
    top_k: int = 100,
    threshold: float = 0.8,
    models: Models | None = None,
) -> dict[str, list[tuple[str, float]]]:
    """The nearest entries of each query.

    Parameters
    ----------
    index
        A folder, or one that is loaded.
    query
        A structure, a folder, a FASTA, a table, or vectors.
    top_k, threshold
        Most hits a query, and the least cosine.
    models
        What embeds the query; as for the index.

    Returns
    -------
    dict
        Query → (match, cosine), best first.
    """
    read = index if isinstance(index, VectorIndex) else VectorIndex.load(index)
    vectors, about = vectors_of(query, models or Models())
    _same_models(read, about, str(query))
    hits = read.search(np.stack(list(vectors.values())), top_k, threshold)
    return {name: [(hit.name, hit.score) for hit in found] for name, found in zip(vectors, hits)}


def vectors_of(source: str | Path, models: Models) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Vectors of a source and what made them: read where they are there, embedded where it names structures."""
    path = Path(source)
    if path.suffix.lower() in TABLES or _is_table_of_vectors(path) or _is_folder_of_vectors(path):
        return read_vectors(path), vectors_identity(path)
    return _embedded(source, models)


def _embedded(source: str | Path, models: Models) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Chains of structures, or sequences, through the models; failures are told and left out."""
    from stateshift.proteins import load_esm2
    from stateshift.structure.aggregator import aggregate, load_aggregator

    trained = load_aggregator(models.aggregator or DEMO_AGGREGATOR)
    residues = Esm2Residues(load_esm2(models.checkpoint), trained.geometry)
    trained.refuse_other_rows(residues.identity)
    jobs = JobData(read_jobs(source), Reading(geometry=trained.geometry))
    vectors: dict[str, np.ndarray] = {}
    failures: list[str] = []
    starts = range(0, len(jobs), BATCH)
    for start in track(starts, "Embedding", total=len(starts)):
        loaded = [jobs[i] for i in range(start, min(start + BATCH, len(jobs)))]
        failures += [f"{one.job.key}: {one.failure}" for one in loaded if one.failure]
        entries = [entry for one in loaded for entry in one.entries]
        if entries:
            made = aggregate(trained.model, residues.rows(entries)).numpy()
            vectors |= dict(zip([entry.name for entry in entries], made))
    for failure in failures[:20]:
        logger.warning("%s", failure)
    if not vectors:
        raise StateshiftError(f"{source} gave no vectors: {some(failures, 3)}")
    return vectors, {"aggregator": trained.sha256, "residues": residues.identity}


def _is_folder_of_vectors(path: Path) -> bool:
    return path.is_dir() and not any(f.name.lower().endswith(SUFFIXES) for f in path.iterdir())


def _is_table_of_vectors(path: Path) -> bool:
    """A csv whose header begins with ``name,0``; a table of structures has none."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().startswith("name,0")


def _same_models(index: VectorIndex, about: Mapping[str, Any], where: str) -> None:
    """Vectors of another aggregator, or of rows of another model, mean nothing beside those of the index."""
    for what, option, made in (
        ("aggregator", "--aggregator", [one.get("aggregator") for one in (index.about, about)]),
        (
            "residue model",
            "--checkpoint",
            [one.get("residues", {}).get("model_sha256") for one in (index.about, about)],
        ),
    ):
        known, new = made
        if known and new and known != new:
            raise StateshiftError(
                f"The index was made by the {what} {known[:12]}…, the vectors of {where} by {new[:12]}…: pass the same "
                f"{option}."
            )


def _metadata(path: str | Path | None, vectors: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such table of metadata.")
    refuse_parquet_without_pyarrow(path)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path, dtype=str)
    except StateshiftError:
        raise
    except (ValueError, OSError) as error:
        raise StateshiftError(f"{path} can't be read as a table: {first_line(error)}") from error
    if "name" not in table:
        raise StateshiftError(f"{path} has no column `name`{suggestion('name', table.columns)}.")
    strangers = [name for name in table["name"].astype(str) if name not in vectors]
    if len(strangers) == len(table):
        raise StateshiftError(f"{path} names none of the vectors (first: {some(strangers, 3)}; {some(vectors, 3)}).")
    kept = table[table["name"].astype(str).isin(list(vectors))]
    return {str(row.pop("name")): row for row in kept.astype(object).where(kept.notna(), None).to_dict("records")}
