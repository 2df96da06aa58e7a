"""Homologs of any protein in a database of sequences: by alignment, by MMseqs2 or by embedding."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from math import log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stateshift.errors import StateshiftError, suggestion
from stateshift.files import written_beside
from stateshift.progress import track
from stateshift.proteins.fasta import read_sequences
from stateshift.rag_esm.homologs.alignment import expected, identity, kmers

if TYPE_CHECKING:
    from stateshift.proteins import ProteinModel

COLUMNS = ("protein", "homolog", "score")
WAYS = ("alignment", "mmseqs", "embedding")
CANDIDATES = 1000
"""Sequences that share the most k-mers with a query and are aligned to it."""
MOST_EXPECTED = 1e-3
"""The E-value up to which two sequences are taken for related: MMseqs2's default too."""


class Homolog(NamedTuple):
    """A database sequence: its name, its residues, and how alike it is (identity, or cosine by embedding)."""

    name: str
    sequence: str
    score: float


def find_homologs(
    queries: Mapping[str, str],
    database: Mapping[str, str],
    *,
    by: str = "alignment",
    top_k: int = 10,
    checkpoint: str | Path | ProteinModel | None = None,
) -> dict[str, list[Homolog]]:
    """The database sequences most alike to each query, best first; never the query itself nor its twins.

    Parameters
    ----------
    queries, database
        Name → sequence.
    by
        ``alignment``: of the 1,000 that share the most 3-mers, weighted by their rarity and for their length, those whose best local
        alignment chance makes once in a thousand searches (an E-value of 0.001) or less, ranked by identity of a
        global alignment; ``mmseqs``: hits of MMseqs2's ``easy-search``, which has to be
        installed, ranked by identical residues over the shorter length;
        ``embedding``: cosine of mean ESM2 embeddings; the nearest, related or not.
    top_k
        Most homologs a query.
    checkpoint
        The ESM2 model of ``embedding``, by name, file or loaded; None is the embedded demo model.

    Returns
    -------
    dict
        Query → homologs; an empty list where there is none.

    Raises
    ------
    StateshiftError
        The way is unknown or what it needs isn't installed; `top_k` is under 1; the database is empty.
    """
    if by not in WAYS:
        raise StateshiftError(f"There is no way to find homologs `{by}`{suggestion(by, WAYS)}.")
    if top_k < 1 or not database:
        raise StateshiftError("Finding homologs needs a database with sequences and a number of homologs of 1 or more.")
    if by == "mmseqs":
        ranked = _by_mmseqs(queries, database)
    elif by == "embedding":
        ranked = _by_embedding(queries, database, top_k, checkpoint)
    else:
        ranked = _by_alignment(queries, database)
    return {
        query: [hit for hit in ranked.get(query, []) if hit.name != query and hit.sequence != sequence][:top_k]
        for query, sequence in queries.items()
    }


def write_homologs(
    fasta: str | Path,
    database: str | Path,
    output: str | Path,
    *,
    by: str = "alignment",
    top_k: int = 1,
    checkpoint: str | Path | None = None,
) -> dict[str, list[Homolog]]:
    """`find_homologs` of the proteins of a FASTA, into a new folder.

    ``proteins.fasta`` and ``contexts.fasta`` hold protein and homolog record by record, as `sample` pairs them;
    ``homologs.csv`` has the columns protein, homolog, score. Proteins without a homolog are left out.
    """
    queries = read_sequences(fasta)
    found = find_homologs(queries, read_sequences(database), by=by, top_k=top_k, checkpoint=checkpoint)
    pairs = [(name, hit) for name, hits in found.items() for hit in hits]
    with written_beside(output) as part:
        part.mkdir()
        (part / "proteins.fasta").write_text("".join(f">{name}\n{queries[name]}\n" for name, _ in pairs))
        (part / "contexts.fasta").write_text("".join(f">{hit.name}\n{hit.sequence}\n" for _, hit in pairs))
        with (part / "homologs.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows([COLUMNS, *((name, hit.name, f"{hit.score:.4f}") for name, hit in pairs)])
    return found


def _by_alignment(queries: Mapping[str, str], database: Mapping[str, str]) -> dict[str, list[Homolog]]:
    holders: dict[str, list[str]] = {}
    for name, sequence in database.items():
        for word in kmers(sequence):
            holders.setdefault(word, []).append(name)
    found, residues = {}, sum(map(len, database.values()))
    for query, sequence in track(queries.items(), "Finding homologs", total=len(queries)):
        shared: Counter[str] = Counter()
        for word in sorted(kmers(sequence)):
            there = holders.get(word, ())
            for name in there:
                shared[name] += log(len(database) / len(there)) / sqrt(len(database[name]))
        others = [n for n, _ in shared.most_common() if n != query and database[n] != sequence][:CANDIDATES]
        related = [n for n in others if expected(sequence, database[n], residues) <= MOST_EXPECTED]
        hits = [Homolog(name, database[name], identity(sequence, database[name])) for name in related]
        found[query] = sorted(hits, key=lambda h: -h.score)
    return found


def _by_embedding(
    queries: Mapping[str, str], database: Mapping[str, str], top_k: int, checkpoint: str | Path | ProteinModel | None
) -> dict[str, list[Homolog]]:
    import numpy as np

    from stateshift.proteins import ProteinModel, embed_proteins, load_esm2
    from stateshift.vector_index import VectorIndex

    esm = checkpoint if isinstance(checkpoint, ProteinModel) else load_esm2(checkpoint)
    index = VectorIndex(esm.width)
    index.add(dict(embed_proteins(esm, database)))
    asked = dict(embed_proteins(esm, queries))
    # its twins and itself fall away afterwards, so as many more are asked for
    twins = Counter(database.values())
    more = top_k + 1 + max(twins[sequence] for sequence in queries.values())
    hits = index.search(np.stack([asked[query] for query in queries]), more)
    return {q: [Homolog(h.name, database[h.name], h.score) for h in found] for q, found in zip(queries, hits)}


def _by_mmseqs(queries: Mapping[str, str], database: Mapping[str, str]) -> dict[str, list[Homolog]]:
    program = shutil.which("mmseqs")
    if program is None:
        raise StateshiftError(
            "MMseqs2 is not installed (no `mmseqs` on the path): use --by alignment, or install it (Debian's package "
            "mmseqs2, conda's bioconda::mmseqs2)."
        )
    found: dict[str, list[Homolog]] = {query: [] for query in queries}
    names, targets = list(queries), list(database)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # numbers for names: MMseqs2 cuts headers at blanks and pipes
        for file, table, order in (("q.fasta", queries, names), ("t.fasta", database, targets)):
            (place / file).write_text("".join(f">{i}\n{table[name]}\n" for i, name in enumerate(order)))
        words = [program, "easy-search", "q.fasta", "t.fasta", "hits.tsv", "tmp"]
        # -a: without the whole alignment MMseqs2 counts no identical residues
        words += ["-a", "--format-output", "query,target,nident,qlen,tlen"]
        done = subprocess.run([*words, "-v", "1"], cwd=place, capture_output=True, text=True)
        if done.returncode:
            raise StateshiftError(f"MMseqs2 failed: {(done.stderr or done.stdout).strip()[-300:]}")
        for line in (place / "hits.tsv").read_text().splitlines():
            query, target, identical, *lengths = map(int, line.split("\t"))
            name = targets[target]
            found[names[query]].append(Homolog(name, database[name], identical / min(lengths)))
    return {query: sorted(hits, key=lambda h: -h.score) for query, hits in found.items()}
