"""Create a feature table for the genes of an experiment or of a list."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stateshift import __version__
from stateshift.cells import perturbed_genes, read_experiment
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.features.directions import WIDTH
from stateshift.features.registry import POLICIES, FeatureRequest, feature_source, unread
from stateshift.features.sources.esm2 import check_options, resume_file
from stateshift.files import refuse_output
from stateshift.genes import read_names
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)


@left_alone()
def create_features(
    *,
    from_toml: Path | None = None,
    gene_list: Path | None = None,
    source: str = "esm2",
    fasta: Path | None = None,
    checkpoint: str | None = None,
    layer: int = -1,
    pooling: str = "mean",
    lookup: Path | None = None,
    width: int = WIDTH,
    aliases: Path | None = None,
    coverage: Path | None = None,
    missing: str = "error",
    transductive: bool = False,
    output: Path,
    overwrite: bool = False,
) -> FeatureTable:
    """Make the table of perturbation features and write it with its provenance.

    Parameters
    ----------
    from_toml
        An experiment: the perturbed genes of all its datasets are needed, doubles split.
    gene_list
        Instead: a file with one symbol a line, or a csv/tsv with symbols in its first column.
    source
        One of ours (``esm2``, ``table``, ``gene_sets``, ``network``, ``symbol``, ``expression``, ``screen``,
        ``structure``, ``rag_esm``, ``bioemb``, ``onehot``, ``random``), or a source that another package offers.
    fasta
        Protein sequences with ``GN=`` symbols, for ``esm2``; default: the downloaded human proteome.
    checkpoint
        A published ESM2 name or a checkpoint file; default: the embedded demo model.
    layer
        ESM2's layer, for ``esm2``: 0 (the token embedding) to the last; negative ones count from the end.
    pooling
        How a protein's residues give one vector, for ``esm2``: ``mean``, ``mean_bos_eos``, ``cls`` or ``max``.
    lookup
        What a source reads: an existing table (.pt, .csv, .tsv, .npz, .h5ad) for ``table``, a GMT for ``gene_sets``,
        an edge list for ``network``, cells for ``expression``, effects for ``screen``, models by accession or a table of gene and file
        for ``structure``, a FASTA of homologs for ``rag_esm``, a table to fine-tune or a run of ``stateshift bioemb train``
        for ``bioemb``.
    width
        The most columns of the sources that reduce.
    aliases
        HGNC's table (``stateshift data get hgnc``): genes are also found by aliases, previous symbols and Ensembl
        ids, for ``esm2``, ``gene_sets`` and ``network``.
    coverage
        A csv to write, for ``esm2``: each gene's protein and what led to it, or why it has none. It is written
        before genes without a protein are refused.
    missing
        ``error``, or what a gene without a vector gets: ``zero``, ``mean`` (of the genes that have one)
        or ``drop`` (left out); recorded gene by gene in the provenance.
    transductive
        For ``bioemb``: fit on the vectors of all genes, not of those alone that `from_toml` doesn't hold out.
    output
        The ``.pt`` file; ``output.json`` beside it holds the provenance.
    overwrite
        Replace an existing output. Without it, one that holds every needed gene is kept and returned.

    Returns
    -------
    FeatureTable
        As written, or as it stood.

    Raises
    ------
    StateshiftError
        The arguments contradict each other, an input can't be used, genes have no vector and no policy
        was chosen, or an output exists that lacks needed genes.
    """
    output = Path(output)
    chosen = {
        "fasta": fasta,
        "checkpoint": checkpoint,
        "layer": None if layer == -1 else layer,
        "pooling": None if pooling == "mean" else pooling,
        "lookup": lookup,
        "width": None if width == WIDTH else width,
        "aliases": aliases,
        "coverage": coverage,
        "transductive": transductive or None,
    }
    source = _checked(source, [name for name, value in chosen.items() if value is not None], missing, output)
    if lookup is not None and Path(lookup).resolve() == output.resolve():
        raise StateshiftError(f"{output} is both the --lookup and the --output: choose another output.")
    if width < 1:
        raise StateshiftError(f"--width {width}: a number of 1 or more is needed.")
    if source == "esm2":
        check_options(layer, pooling, checkpoint)
    genes = _wanted_genes(from_toml, gene_list)
    if output.is_file() and not overwrite:
        return _kept(output, genes)
    refuse_output(output, overwrite)
    request = FeatureRequest(
        genes=genes,
        output=output,
        fasta=Path(fasta) if fasta else None,
        checkpoint=checkpoint,
        layer=layer,
        pooling=pooling,
        lookup=Path(lookup) if lookup else None,
        width=width,
        aliases=Path(aliases) if aliases else None,
        coverage=Path(coverage) if coverage else None,
        missing=missing,
        experiment=read_experiment(from_toml) if from_toml else None,
        transductive=transductive,
    )
    table = build_features(request, source)
    table.save(output, overwrite=overwrite)
    resume_file(output).unlink(missing_ok=True)
    logger.info("%s: %d genes, %d values each.", output, len(table), table.width)
    return table


def build_features(request: FeatureRequest, source: str = "esm2") -> FeatureTable:
    """A source's table in memory, the policy for missing genes carried out and recorded.

    Unfinished work may stay in `resume_file` of ``request.output``; remove it once the table is stored.

    Raises
    ------
    StateshiftError
        No source has the name, an input can't be used, or genes have no vector and the policy is ``error``.
    """
    return _settled(feature_source(source)(request), request, source)


def read_gene_list(path: str | Path) -> list[str]:
    """Gene symbols of a text file, one a line, or of a csv/tsv's first column.

    Blank lines and repeated symbols are passed over, ``A+B`` gives two genes, and a first line that
    reads ``gene``, ``target_gene``, ``symbol`` or alike is taken for a header, which is logged.

    Raises
    ------
    StateshiftError
        The file is missing, isn't text, or holds no symbol in its first column.
    """
    header, names = read_names(path)
    if header is not None:
        logger.info("%s: the first line `%s` is taken for a header.", Path(path).name, header)
    genes = list(dict.fromkeys(gene for name in names for gene in genes_of(name)))
    if all(gene.isdigit() for gene in genes):
        raise StateshiftError(f"{path}: its first column holds numbers ({some(genes, 3)}), no gene symbols.")
    return genes


def _checked(source: str, chosen: list[str], missing: str, output: Path) -> str:
    """The source meant, once the arguments agree with each other; a lookup without one is a table."""
    if missing not in POLICIES:
        raise StateshiftError(f"--missing {missing} is no policy{suggestion(missing, POLICIES)}.")
    if output.is_dir():
        raise StateshiftError(f"{output} is a folder: name a file, as in {output / 'ESM2_pert_features.pt'}.")
    if "lookup" in chosen and source == "esm2":
        source = "table"
    if wrong := [f"--{choice}: {why}." for choice, why in unread(source, chosen).items()]:
        raise StateshiftError(f"{' '.join(wrong)} Leave it out, or choose another --source.")
    return source


def _wanted_genes(from_toml: Path | None, gene_list: Path | None) -> list[str]:
    """The genes that need a vector, from exactly one of the two inputs."""
    if (from_toml is None) == (gene_list is None):
        raise StateshiftError("Name the genes by one of --from-toml (an experiment) and --gene-list (a file).")
    if gene_list is not None:
        genes, where = read_gene_list(gene_list), Path(gene_list).name
    else:
        genes, where = perturbed_genes(Path(from_toml)), Path(from_toml).name
        if not genes:
            raise StateshiftError(f"{from_toml}: its datasets hold no perturbed genes.")
    logger.info("%d genes from %s.", len(genes), where)
    return genes


def _kept(output: Path, genes: list[str]) -> FeatureTable:
    """The existing output where it holds every gene; an error that says what it lacks otherwise."""
    try:
        table = FeatureTable.load(output)
    except StateshiftError as error:
        raise StateshiftError(f"{error} Choose another --output, or replace it with --overwrite.") from error
    lacking = table.missing(genes)
    if lacking:
        raise StateshiftError(
            f"{output} exists and lacks {some(lacking)}: choose another --output, or replace it with --overwrite."
        )
    made_by = " ".join(str(table.provenance[k]) for k in ("source", "model") if k in table.provenance)
    logger.info(
        "%s (%s) holds all %d genes already and is kept (--overwrite makes it anew).", output, made_by, len(genes)
    )
    filled = [gene for gene in genes if gene in table.provenance.get("missing_policy", {})]
    if filled:
        logger.info("Of these, %s had no vector of their own and were filled in when it was made.", some(filled))
    if table.provenance.get("demo"):
        logger.info("It was made with the embedded demo model: good for trying out, not for research.")
    return table


def _settled(table: FeatureTable, request: FeatureRequest, source: str) -> FeatureTable:
    """The source's table with the policy for missing genes carried out, and everything recorded."""
    if not isinstance(table, FeatureTable):
        raise StateshiftError(
            f"The feature source `{source}` gives a {type(table).__name__}: a FeatureTable is needed, as "
            "request.picked(genes, vectors, provenance, absent) makes it."
        )
    missing = dict(table.provenance.get("missing", {}))
    missing.update({g: f"`{source}` gave no vector" for g in request.genes if g not in table and g not in missing})
    request.refuse_missing(missing, f"`{source}`")
    if not len(table):
        raise StateshiftError(f"None of the {len(request.genes)} genes has a vector: {some(missing)}.")
    table = table.subset([gene for gene in request.genes if gene in table])
    if missing and request.missing != "drop":
        row = table.vectors.mean(axis=0) if request.missing == "mean" else np.zeros(table.width, dtype=np.float32)
        vectors = dict(zip(table.genes, table.vectors)) | dict.fromkeys(missing, row)
        table = FeatureTable.from_mapping({gene: vectors[gene] for gene in request.genes}, table.provenance)
    if missing:
        done = {"zero": "get a zero vector", "mean": "get the mean vector", "drop": "are left out"}[request.missing]
        logger.info(
            "%d genes without a vector %s (--missing %s): %s.", len(missing), done, request.missing, some(missing)
        )
    provenance = {
        **table.provenance,
        "missing": missing,
        "missing_policy": dict.fromkeys(missing, request.missing),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "stateshift": __version__,
    }
    return replace(table, provenance=provenance)
