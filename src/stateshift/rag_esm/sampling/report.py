"""One page on a sampling run: how alike, how likely, of what length and composition, how the entropy fell."""

from __future__ import annotations

import csv
import html
import json
from collections import Counter
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.files import intact, written_beside
from stateshift.proteins.fasta import read_fasta
from stateshift.rag_esm.homologs.alignment import identity
from stateshift.rag_esm.homologs.data import read_data
from stateshift.rag_esm.homologs.retrieval import find_homologs
from stateshift.rag_esm.sampling.sample import ABOUT, CONTEXTS, ENTROPY, GENERATED, TABLE

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def report_samples(samples: str | Path, output: str | Path, data: str | Path | None = None) -> list[dict[str, object]]:
    """Write one self-contained HTML page, and its table as ``.csv`` beside it.

    Parameters
    ----------
    samples
        A folder of `sample`.
    output
        The page; ``.html``.
    data
        The folder of `make_data` that the model was trained on: then the identity to the training sequence most
        alike is told. Both identities are of the best global alignment, ends free, by the shorter length.

    Returns
    -------
    list of dict
        A row a protein: what ``samples.csv`` holds, ``identity_to_context``, ``nearest_training`` and
        ``identity_to_training`` (empty where no training sequence is more alike than by chance).

    Raises
    ------
    StateshiftError
        The folder holds no samples, or the output exists.
    """
    folder, output = Path(samples), Path(output)
    if not (folder / TABLE).is_file():
        raise StateshiftError(f"{folder} holds no samples: it lacks {TABLE}.")
    if output.suffix != ".html":
        raise StateshiftError(f"{output}: a report's name ends in .html.")
    generated, contexts = read_fasta(folder / GENERATED), read_fasta(folder / CONTEXTS)
    with (folder / TABLE).open(newline="") as handle:
        rows: list[dict[str, object]] = list(csv.DictReader(handle))
    for row, made, context in zip(rows, generated, contexts, strict=True):
        row["identity_to_context"] = round(identity(made.sequence, context.sequence), 4)
    if data is not None:
        train, _ = read_data(data)
        known = {f"{c.name}/{name}": sequence for c in train for name, sequence in zip(c.ids, c.sequences)}
        nearest = _nearest([made.sequence for made in generated], known)
        for row, (name, share) in zip(rows, nearest):
            row |= {"nearest_training": name, "identity_to_training": share}
    with written_beside(output) as page, written_beside(output.with_suffix(".csv")) as table:
        page.write_text(_page(folder, rows, generated, contexts), encoding="utf-8")
        with table.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return rows


def _nearest(sequences: list[str], known: dict[str, str]) -> list[tuple[str, object]]:
    """Name and identity of the most alike; a training sequence itself, were it made again, counts as 1."""
    name_of = {sequence: name for name, sequence in known.items()}
    queries = {str(i): s for i, s in enumerate(sequences) if s not in name_of}
    found = find_homologs(queries, known, top_k=1) if queries else {}
    told: list[tuple[str, object]] = []
    for i, sequence in enumerate(sequences):
        hits = found.get(str(i), [])
        best = (hits[0].name, round(hits[0].score, 4)) if hits else ("", "")
        told.append((name_of[sequence], 1.0) if sequence in name_of else best)
    return told


def composition(sequences: list[str]) -> np.ndarray:
    """(20,) shares of the amino acids in the order of the alphabet.

    Examples
    --------
    >>> composition(["AAC", "D"])[:4]
    array([0.5 , 0.25, 0.25, 0.  ])
    """
    counts = Counter("".join(sequences))
    total = max(sum(counts[x] for x in LETTERS), 1)
    return np.array([counts[x] / total for x in LETTERS])


def _page(folder: Path, rows: list[dict[str, object]], generated: list, contexts: list) -> str:
    numbers = [k for k in rows[0] if k not in ("id", "context", "nearest_training")]
    summary = []
    for key in numbers:
        values = np.array([float(row[key]) for row in rows if row[key] != ""], dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            told = (values.min(), *np.quantile(values, [0.25, 0.5, 0.75]), values.max())
            summary.append([key.replace("_", " "), len(values), *(f"{v:.3g}" for v in told)])
    made, shown = (composition([p.sequence for p in side]) for side in (generated, contexts))
    letters = [[x, f"{100 * a:.1f}", f"{100 * b:.1f}"] for x, a, b in zip(LETTERS, made, shown)]
    with intact(folder / ABOUT, "Sample anew."):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about["settings"].items())
    with (folder / ENTROPY).open(newline="") as handle:
        entropy = [float(row["mean_entropy_nats"]) for row in csv.DictReader(handle)]
    parts = [
        "<!doctype html><meta charset='utf-8'><title>RAG-ESM samples</title>",
        "<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto}td,th{padding:.1em .8em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}</style>",
        f"<h1>{len(rows)} samples of {html.escape(folder.name)}</h1>",
        f"<p>Model {html.escape(about['checkpoint'])}; {html.escape(settings)}.</p>",
        _table(["", "proteins", "least", "quarter", "median", "three quarters", "most"], summary),
        "<h2>Entropy of what is predicted for masked residues</h2>",
        _curve(entropy),
        "<h2>Composition</h2>",
        _table(["residue", "generated, %", "contexts, %"], letters),
        "<h2>Every protein</h2>",
        _table([k.replace("_", " ") for k in rows[0]], [list(row.values()) for row in rows]),
    ]
    return "\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[object]]) -> str:
    lines = ["".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _curve(values: list[float]) -> str:
    """An inline SVG: iterations to the right, nats from 0 to ln 20 upwards."""
    if not values:
        return "<p>Nothing was masked.</p>"
    width, height, top = 600, 200, np.log(20)
    across = width / max(len(values) - 1, 1)
    points = " ".join(f"{i * across:.1f},{height * (1 - v / top):.1f}" for i, v in enumerate(values))
    return (
        f"<svg viewBox='-40 -10 {width + 60} {height + 40}' width='{width + 60}'>"
        f"<path d='M0 0V{height}H{width}' fill='none' stroke='#888'/>"
        f"<polyline points='{points}' fill='none' stroke='#06c' stroke-width='2'/>"
        f"<text x='-38' y='6' font-size='12'>ln 20</text><text x='-14' y='{height}' font-size='12'>0</text>"
        f"<text x='{width - 90}' y='{height + 20}' font-size='12'>iteration {len(values)}</text></svg>"
    )
