"""What ``stateshift check`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from stateshift.cells.regimes import REGIMES, regime_counts
from stateshift.errors import some

if TYPE_CHECKING:
    from stateshift.training import ExperimentCheck
    from stateshift.training.resources import RunNeeds


def check_tables(found: ExperimentCheck) -> Iterator[Table]:
    """Files and columns, cells and genes, splits, regimes, and the coverage by features where a table is named."""
    yield _files(found)
    yield _facts(
        "cells and genes",
        ("cells", f"{found.n_cells:,}"),
        ("control cells", f"{found.n_controls:,}"),
        ("genes measured" if found.files[0].is_expression else "dimensions", f"{found.n_genes:,}"),
        *((("genes of X", f"{found.n_every_gene:,}"),) if found.n_every_gene else ()),
        ("genes perturbed", f"{len(found.genes):,}"),
        ("scale", found.scale),
    )
    splits = Table("split", "context", "perturbations", "cells", title="splits")
    for split, contexts in found.counts.items():
        for context, perturbations in contexts.items():
            splits.add_row(split, context, f"{len(perturbations):,}", f"{sum(perturbations.values()):,}")
    yield splits
    if regimes := regime_counts(found.counts):
        yield _regimes(regimes)
    if found.coverage:
        yield _coverage(found)


def needs_table(needs: RunNeeds) -> Table:
    """The memory and the time of a run."""
    kept = "in memory" if needs.in_memory else "read from the cache (data.memory_gb)"
    rows = [("cells", f"{_size(needs.matrix_bytes)}, {kept}")]
    if needs.n_parameters is None:
        rows.append(("model", "known once [features] names a table, or a published checkpoint of ESM2"))
    else:
        rows += [
            ("features", _size(needs.feature_bytes)),
            ("model", f"{needs.n_parameters:,} parameters, {_size(needs.model_bytes)} with gradients and Adam"),
            ("a training step", _size(needs.step_bytes)),
        ]
    if needs.embedding:
        rows.append(("proteins", _embedding(needs)))
    epochs = needs.max_steps / needs.batches_an_epoch
    rows += [
        ("sets of cells", f"{needs.n_sets:,}, in {needs.batches_an_epoch:,} batches an epoch"),
        ("steps", f"{needs.max_steps:,}, {epochs:,.1f} epochs"),
        ("time", _time(needs)),
    ]
    return _facts("a run needs", *rows)


def _files(found: ExperimentCheck) -> Table:
    table = Table(
        "dataset", "file", "cells", "perturbation", "cell type", "batch", "control", title="files and columns"
    )
    for column in table.columns:
        column.overflow = "fold"
    for file in found.files:
        c = file.columns
        dataset = file.obs["dataset"].iloc[0]
        table.add_row(
            dataset, str(file.path), f"{len(file.obs):,}", c.perturbation, c.cell_type, c.batch or "–", c.control
        )
    return table


def _regimes(counts: dict[str, dict[str, int]]) -> Table:
    table = Table("split", "regime", "pairs", "to the training cells", title="held-out pairs by what is new")
    for split, regimes in counts.items():
        for regime, pairs in regimes.items():
            table.add_row(split, regime, f"{pairs:,}", REGIMES[regime])
    return table


def _coverage(found: ExperimentCheck) -> Table:
    table = Table("split", "with a vector", "without", "genes without", title="perturbations with feature vectors")
    table.columns[3].overflow = "fold"
    for c in found.coverage:
        named = some(c.missing_genes, 20) or "–"
        table.add_row(c.split, f"{len(c.covered):,}", f"{len(c.uncovered):,}", named)
    return table


def _facts(title: str, *rows: tuple[str, str]) -> Table:
    table = Table(show_header=False, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def _time(needs: RunNeeds) -> str:
    if needs.n_parameters is None:
        return "known with the model"
    if needs.step_seconds is None:
        return "not measured here: it depends on the accelerator"
    told = _duration(needs.step_seconds * needs.max_steps)
    return f"{told} on this machine ({needs.device}, {needs.step_seconds:.2g} s a step)"


def _embedding(needs: RunNeeds) -> str:
    made = needs.embedding
    model = f"{made.model} ({_size(made.model_bytes)})"
    if made.seconds is None:
        return f"{made.genes:,} through {model}; how long is known once [features] names a fasta"
    return (
        f"{made.genes:,} of {made.residues:,} residues through {model}: {_duration(made.seconds)} on this machine "
        f"({needs.device}) by its rate of products; fetching and loading come on top"
    )


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"about {minutes / 60:,.1f} hours" if minutes > 90 else f"about {max(1, round(minutes))} minutes"


def _size(n_bytes: int) -> str:
    scale, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB")) if n_bytes >= s), (1e3, "kB"))
    return f"{n_bytes / scale:,.1f} {unit}"
