"""What is to be predicted, found again in what predicts it: features and gene choices made of held-out cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stateshift.cells.survey import FoundFile
from stateshift.errors import some
from stateshift.feature_table import FeatureTable
from stateshift.files import sha256
from stateshift.genes.spelling import folded

CONTROLS_ALONE = ("expression",)
"""Sources that read cells and look at no perturbed one."""


def leak_notes(
    table: FeatureTable,
    where: str,
    held_out: Iterable[tuple[str, str]],
    trained: Iterable[str] = (),
    files: Iterable[Path] = (),
) -> list[str]:
    """Sentences on a feature table that holds what it is to predict.

    The provenance of the table is searched, that of its parts and of the tables that it was made of.

    Parameters
    ----------
    table
        Its provenance tells ``measured_effects``, and which were measured: ``perturbed``, context → genes; or
        ``contexts``, in each of which every gene of the table counts as perturbed.
    where
        What the table goes by.
    held_out
        (perturbation, context) of the validation and test pairs.
    trained
        Perturbations of the training pairs: what a table knows of them from other contexts is no secret.
    files
        The experiment's; they are read for their checksum where a part of the table was made of a file of such a name.
    """
    known = set(trained)
    # the effect of a gene alone is no answer to what a double of it does
    pairs = [(p, c) for p, c in held_out if "+" not in p]
    notes = []
    for made in _origins(table.provenance):
        source = f"source `{made.get('source', '?')}`, {made.get('lookup', 'file unknown')}"
        if made.get("measured_effects") and "parts" not in made:
            notes += _on_measured(made, table, where, source, pairs, known)
        elif made.get("lookup_sha256") and made.get("source") not in CONTROLS_ALONE:
            named = [path for path in files if path.name == made.get("lookup") and path.is_file()]
            if any(sha256(path) == made["lookup_sha256"] for path in named):
                notes.append(
                    f"{where} was made of {named[0].name} ({source}), which holds this experiment's held-out cells: a score "
                    "may say nothing. Make it of the training cells alone."
                )
    return list(dict.fromkeys(notes))


def _on_measured(
    made: Mapping[str, Any],
    table: FeatureTable,
    where: str,
    source: str,
    pairs: list[tuple[str, str]],
    trained: set[str],
) -> list[str]:
    """Held-out pairs that the table knows themselves, and those whose genes it knows from other contexts."""
    filled = {*table.provenance.get("missing_policy", {}), *made.get("missing", {})}
    own = set(table.genes) - filled
    perturbed = made.get("perturbed") or dict.fromkeys(made.get("contexts", []), own)
    measured = {(gene, folded(context)) for context, genes in perturbed.items() for gene in genes}
    same = [f"{p} in {c}" for p, c in pairs if (p, folded(c)) in measured]
    genes = {gene for gene, _ in measured}
    names = sorted({p for p, c in pairs if p in genes - trained and (p, folded(c)) not in measured})
    notes = []
    if same:
        notes.append(
            f"{where} holds measured effects of {len(same):,} held-out pairs ({source}: {some(same, 4)}): a score on them "
            "says nothing. Make it of the training split (stateshift effects estimate --split train) or of other contexts."
        )
    if names:
        notes.append(
            f"{where} holds effects of {len(names):,} held-out perturbations, measured in {some(sorted(perturbed), 4)} "
            f"({source}: {some(names, 4)}): they are new to the cells that train, and not to the features."
        )
    return notes


def chosen_on_all_cells(files: Iterable[FoundFile], experiment: str) -> list[str]:
    """Sentences on ``obsm`` arrays whose genes or dimensions were not chosen by the training cells, as far as files tell.

    Parameters
    ----------
    files
        As found; ``uns["stateshift"]["prepared"]`` is read, which ``stateshift data prepare`` writes.
    experiment
        The TOML's name.
    """
    notes = []
    for file in files:
        if file.embedding is None:
            continue
        prepared = file.uns.get("stateshift", {}).get("prepared")
        if prepared is None:
            notes.append(
                f"{file.name}: nothing tells which cells obsm `{file.embedding}` was fitted on; if held-out ones were among "
                "them, scores flatter every model."
            )
        elif file.embedding == "X_hvg" and not str(prepared.get("experiment", "")):
            notes.append(
                f"{file.name}: the genes of obsm `X_hvg` were chosen on all cells, held-out ones included: prepare it with "
                "--experiment."
            )
        elif file.embedding == "X_hvg" and str(prepared["experiment"]) != experiment:
            notes.append(
                f"{file.name}: the genes of obsm `X_hvg` were chosen on the training cells of {prepared['experiment']}; those "
                f"of {experiment} may differ."
            )
    return notes


def _origins(provenance: Any) -> Iterator[Mapping[str, Any]]:
    """A provenance and all that stand in it: of parts, and of what was looked up."""
    if isinstance(provenance, Mapping):
        yield provenance
        provenance = provenance.values()
    elif not isinstance(provenance, list):
        return
    for inner in provenance:
        yield from _origins(inner)
