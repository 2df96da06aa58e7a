"""Which perturbations of each split have feature vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stateshift.cells.experiment import Experiment
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable, genes_of, named_otherwise
from stateshift.genes import GeneNames, proteins_of_genes
from stateshift.proteins.fasta import downloaded_proteome, read_fasta

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitCoverage:
    """Of one split: perturbations whose genes all have a vector, the others, and the genes they lack."""

    split: str
    covered: list[str]
    uncovered: list[str]
    missing_genes: list[str]


def covered_genes(experiment: Experiment, table: FeatureTable | None, genes: Collection[str]) -> set[str] | None:
    """Which genes will have a vector: those of the table, or those with a protein in the FASTA that ESM2 is to read.

    None where the features are made of something else, which tells as they are made.

    Raises
    ------
    StateshiftError
        The FASTA or the table of aliases can't be read, or none is named.
    """
    if table is not None:
        return set(table.genes)
    declared = experiment.features
    if declared.get("source") != "esm2":
        return None
    fasta = fasta_of(experiment)
    if fasta is None:
        raise StateshiftError(
            '[features] source = "esm2" reads proteins: name a FASTA, as in  fasta = "human.fasta", or fetch the human '
            "proteome (stateshift data get uniprot_human)."
        )
    names = GeneNames.from_hgnc(experiment.resolve(declared["aliases"])) if "aliases" in declared else None
    return set(proteins_of_genes(genes, read_fasta(fasta, unique=True), str(fasta), names).found)


def fasta_of(experiment: Experiment) -> Path | None:
    """The FASTA that ESM2 features are made of: the one that ``[features]`` names, else the one in the catalogue's cache."""
    named = experiment.features.get("fasta")
    return downloaded_proteome() if named is None else experiment.resolve(named)


def coverage_by_split(groups: pd.DataFrame, covered: Collection[str]) -> list[SplitCoverage]:
    """Coverage of the perturbations of train, val and test, those without cells left out.

    Parameters
    ----------
    groups
        As `stateshift.cells.splits.split_groups` gives them.
    covered
        The genes that have a vector, as `covered_genes` tells.
    """
    found = []
    for split in SPLITS:
        names = sorted(groups.loc[groups["split"] == split, "perturbation"].unique())
        absent = {name: [gene for gene in genes_of(name) if gene not in covered] for name in names}
        lacking = [name for name in names if absent[name]]
        if names:
            missing = sorted({gene for name in lacking for gene in absent[name]})
            found.append(SplitCoverage(split, [name for name in names if not absent[name]], lacking, missing))
    return found


def untold_by_onehot(counts: Mapping[str, Mapping[str, Iterable[str]]]) -> list[str]:
    """A sentence on held-out genes that one-hot features can't tell of, for no training cell is perturbed in them.

    Parameters
    ----------
    counts
        split → context → perturbations, as `stateshift.cells.splits.split_counts` gives them.

    Examples
    --------
    >>> untold_by_onehot({"train": {"K562": ["A"]}, "test": {"K562": ["A+B"]}})[0][:60]
    'One-hot features say nothing of B, held out, in which no tra'
    """
    genes = {name: {g for of in counts.get(name, {}).values() for p in of for g in genes_of(p)} for name in SPLITS}
    untold = sorted((genes["val"] | genes["test"]) - genes["train"])
    if not untold:
        return []
    return [
        f"One-hot features say nothing of {some(untold)}, held out, in which no training cell is perturbed: a prediction "
        "refuses them. Name a table or another source in [features], or hold out cell types in place of genes."
    ]


def coverage_problems(
    coverage: list[SplitCoverage], policy: str, fasta: Path | None = None, table: FeatureTable | None = None
) -> list[str]:
    """What training would refuse: perturbations without a vector, or without a protein, unless a policy is named.

    Parameters
    ----------
    fasta
        The proteins that are to be embedded.
    table
        The feature table that is there in its place.
    """
    if policy != "error":
        return []
    lack, way = "feature vector", "make a table that holds them (create_esm_pert_features)"
    if table is not None and any(named_otherwise(c.missing_genes, table.genes) for c in coverage):
        way = 'find them by their other names: [features] source = "table", lookup = the table, aliases = HGNC\'s table'
    if fasta is not None:
        lack = f"protein in {fasta.name}"
        way = (
            "name a FASTA that holds them, or [features] aliases = HGNC's table; drugs and cytokines take "
            '[features] source = "onehot" or a table of theirs'
        )
    return [
        f"{c.split}: {len(c.uncovered):,} of {len(c.covered) + len(c.uncovered):,} perturbations have no {lack} "
        f"({some(c.missing_genes, 20)}{'' if table is None else named_otherwise(c.missing_genes, table.genes)}): {way}"
        f', or leave them out by name with [features] missing = "drop".'
        for c in coverage
        if c.uncovered
    ]
