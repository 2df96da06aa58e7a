"""What ``stateshift protein mutations`` and ``map`` write: tables, pictures, a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from stateshift.errors import StateshiftError, suggestion
from stateshift.files import written_beside
from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH
from stateshift.proteins.esm2.models import DEMO, load_esm2
from stateshift.proteins.explore.figures import map_figure, map_page, mutations_figure, save, scan_figure
from stateshift.proteins.explore.mutants import Mutations, compare_mutants, masked_marginals, scan_mutants
from stateshift.proteins.explore.mutants.calls import call_mutant
from stateshift.proteins.explore.mutants.comparison import require_mutants
from stateshift.proteins.explore.mutants.embedding import embed_once
from stateshift.proteins.explore.projection import COMPONENTS, OF_TABLE, Projection, project, read_columns
from stateshift.proteins.explore.stored import read_embeddings
from stateshift.proteins.fasta import read_sequences


def mutations(
    fasta: str | Path,
    output: str | Path,
    *,
    wt: str = "WT",
    embeddings: str | Path | None = None,
    checkpoint: str | None = None,
    score: bool = False,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Mutations:
    """Compare the mutants of a FASTA with their wild type.

    Writes ``mutations.csv``, ``thirds.csv`` and ``mutations.png``; and ``embeddings.h5`` where they are made here.

    Parameters
    ----------
    fasta
        Wild type and mutants.
    output
        A folder: new, or one that an earlier call of the same began.
    wt
        The wild type's id.
    embeddings
        Stored embeddings of all of them; default: they are made, in single precision, since mutants differ by little.
    checkpoint
        An ESM2 model, as `load_esm2` takes it; default the demo model.
    score
        Add the masked-marginal log-likelihood under the model, column ``score``.
    tokens_per_batch
        Most tokens in a batch.

    Raises
    ------
    StateshiftError
        An input can't be used, the wild type is missing, or the folder holds such a table already.
    """
    if embeddings is not None and checkpoint is not None and not score:
        raise StateshiftError("Stored --embeddings need no --checkpoint, unless --score is to be computed with it.")
    if embeddings is not None and checkpoint is None and score:
        raise StateshiftError(
            "--score is computed with a model, and stored --embeddings don't bring theirs: name it with --checkpoint "
            f"({DEMO} is the demo model)."
        )
    sequences = read_sequences(fasta)
    require_mutants(sequences, wt)
    seen = _compared(sequences, wt, embeddings) if embeddings is not None else None
    esm = load_esm2(checkpoint, precision="fp32") if seen is None or score else None
    output = _folder(output, "mutations.csv", column="score" if score else None)
    if seen is None:
        store = output / "embeddings.h5"
        embed_once(esm, store, sequences, ("residue", "protein"), tokens_per_batch).close()
        seen = _compared(sequences, wt, store)
    if score:
        calls = [call_mutant(sequences[wt], sequences[id]) for id in seen.table["id"]]
        seen.table["score"] = masked_marginals(esm, sequences[wt], calls, tokens_per_batch)
    save(mutations_figure(seen), output / "mutations.png")
    _write_table(seen.thirds, output / "thirds.csv")
    _write_table(seen.table, output / "mutations.csv")
    return seen


def scan(
    fasta: str | Path,
    output: str | Path,
    *,
    wt: str = "WT",
    checkpoint: str | None = None,
    score: bool = False,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> pd.DataFrame:
    """Compare every single mutant of a protein with it.

    Writes ``scan.h5`` (protein vectors), ``scan.csv``, ``scan.png``, and ``score.png`` where scores are asked for.
    After a kill the same call goes on; a scan that is done can be called again with scores.

    Parameters
    ----------
    fasta
        The protein, perhaps among others.
    output
        A folder: new, or one that an earlier call of the same began.
    wt
        The protein's id; of a FASTA with a single record, that one.
    checkpoint, score, tokens_per_batch
        As for `mutations`.

    Returns
    -------
    pandas.DataFrame
        As `scan_mutants` returns it.

    Raises
    ------
    StateshiftError
        The protein is missing, or the folder holds another scan.
    """
    sequences = read_sequences(fasta)
    if len(sequences) == 1:
        wt = next(iter(sequences))
    if wt not in sequences:
        raise StateshiftError(f"{fasta} holds no `{wt}`{suggestion(wt, sequences)}: name the wild type with --wt.")
    esm = load_esm2(checkpoint, precision="fp32")
    pictures = {"scan.png": "cosine"} | ({"score.png": "score"} if score else {})
    output = _folder(output, "scan.csv", column="score" if score else None)
    table = scan_mutants(esm, sequences[wt], output / "scan.h5", score=score, tokens_per_batch=tokens_per_batch)
    for name, column in pictures.items():
        save(scan_figure(table, sequences[wt], column), output / name)
    _write_table(table, output / "scan.csv")
    return table


def map_proteins(
    embeddings: str | Path, output: str | Path, *, table: str | Path | None = None, color: str | None = None
) -> Projection:
    """Draw the first two principal components of stored protein vectors.

    Writes ``map.csv``, ``map.png`` and ``map.html``, a page that needs no network.

    Parameters
    ----------
    embeddings
        Stored embeddings.
    output
        A folder.
    table
        A csv or tsv with a column ``id``, or ids in its first; its columns go into ``map.csv`` and onto the page.
    color
        A column of it.

    Raises
    ------
    StateshiftError
        An input can't be used, `color` is no column, or the folder holds a map already.
    """
    if color is not None and table is None:
        raise StateshiftError("--color names a column of a table: name its file with --table.")
    columns = read_columns(table, color) if table is not None else None
    with read_embeddings(embeddings) as held:
        found = project(held, columns)
    if color in COMPONENTS:
        color += OF_TABLE
    output = _folder(output, "map.csv")
    save(map_figure(found, color), output / "map.png")
    with written_beside(output / "map.html", overwrite=True) as beside:
        beside.write_text(map_page(found, color), encoding="utf-8")
    _write_table(found.table, output / "map.csv")
    return found


def _compared(sequences: Mapping[str, str], wt: str, embeddings: str | Path) -> Mutations:
    with read_embeddings(embeddings) as held:
        return compare_mutants(sequences, wt, held)


def _folder(output: str | Path, last: str, column: str | None = None) -> Path:
    """The folder, made where it isn't there.

    The table `last` is written behind everything else, so that a folder with it is done; what lies in one without it
    was left by a call that ended early and is replaced. A table that lacks the `column` now wanted is no end either.
    """
    output = Path(output)
    if (output / last).exists() and (column is None or column in pd.read_csv(output / last, nrows=0)):
        raise StateshiftError(f"{output} holds {last} already: choose another folder with --output.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateshiftError(f"{output} can't be made: {error.strerror or error}.") from error
    return output


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with written_beside(path, overwrite=True) as beside:
        table.to_csv(beside, index=False)
