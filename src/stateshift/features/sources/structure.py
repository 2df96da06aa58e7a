"""Structure features: a gene's vector is that of its protein's model."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import FeatureRequest, reads
from stateshift.files import sha256
from stateshift.genes import proteins_of_genes
from stateshift.proteins import read_fasta
from stateshift.proteins.fasta import downloaded_proteome

logger = logging.getLogger(__name__)

ENDINGS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")


READS = "a folder of models by accession, or a table of gene and file"


def genes_without_structure(request: FeatureRequest) -> dict[str, str]:
    """Requested genes without a file of their own."""
    return _found(request, request.file(READS))[1]


@reads(
    "lookup", "fasta", "checkpoint", "aliases", lacking=genes_without_structure, later="genes whose file can't be read"
)
def structure_features(request: FeatureRequest) -> FeatureTable:
    """Embed the structure of each gene's protein: the first chain of its file, through an aggregator.

    ``request.lookup`` is a folder of models named by UniProt accession (``AF-P04637-F1-model_v4.cif.gz``,
    ``P04637.pdb``), where ``request.fasta`` tells a gene's accession; or a csv or tsv with the columns ``gene``
    and ``file`` (beside it) and, where wanted, ``chain``. ``request.checkpoint`` is an aggregator; the ESM2
    model that it was trained with is told by its file. Vectors are kept in ``OUTPUT.structures`` until the
    table is whole, so a run that was stopped goes on.

    Raises
    ------
    StateshiftError
        No lookup is named or it can't be used; genes have no structure and the policy is ``error``.
    """
    from stateshift.structure.aggregator import load_aggregator
    from stateshift.structure.pipeline.commands import DEMO_AGGREGATOR

    lookup = request.file(READS)
    files, missing = _found(request, lookup)
    request.refuse_missing(missing, lookup.name)
    aggregator = Path(request.checkpoint) if request.checkpoint else DEMO_AGGREGATOR
    trained = load_aggregator(aggregator)
    vectors, failed = _embedded(files, request, _residue_model(trained.residues, aggregator), aggregator)
    missing |= failed
    request.refuse_missing(missing, lookup.name)
    provenance = {
        "source": "structure",
        "lookup": lookup.name,
        "lookup_sha256": _listed(lookup) if lookup.is_dir() else sha256(lookup),
        "aggregator": aggregator.name,
        "aggregator_sha256": trained.sha256,
        "residues": trained.residues,
        "structures": {gene: files[gene][0].name for gene in vectors},
        "missing": missing,
    }
    if aggregator == DEMO_AGGREGATOR:
        provenance["demo"] = True
        logger.info("The embedded demo aggregator makes these features: good for trying out, not for research.")
    width = trained.model.shape.hidden
    rows = np.stack(list(vectors.values())) if vectors else np.zeros((0, width), dtype=np.float32)
    return FeatureTable(list(vectors), rows, provenance)


Found = tuple[dict[str, tuple[Path, str]], dict[str, str]]
"""Gene → file and chain (empty: the first), and gene → why it has none."""


def _found(request: FeatureRequest, lookup: Path) -> Found:
    return _of_folder(request, lookup) if lookup.is_dir() else _of_table(request, lookup)


def _of_folder(request: FeatureRequest, folder: Path) -> Found:
    """Models by accession: a FASTA says which accession a gene has."""
    fasta = request.fasta or downloaded_proteome()
    if fasta is None:
        raise StateshiftError("A folder of models needs --fasta: UniProt's headers say which accession a gene has.")
    models: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        ending = next((e for e in ENDINGS if file.name.lower().endswith(e)), None)
        if ending is not None:
            stem = file.name[: -len(ending)]
            accession = re.match(r"AF-(.+?)-F\d+", stem)
            models.setdefault(accession[1] if accession else stem, []).append(file)
    if not models:
        raise StateshiftError(f"{folder} holds no structures (.pdb, .cif, plain or gzipped).")
    coverage = proteins_of_genes(request.genes, read_fasta(fasta), str(fasta), request.names())
    files, missing = {}, dict(coverage.missing)
    for gene, protein in coverage.found.items():
        fields = protein.id.split("|")
        accession = fields[1] if len(fields) > 1 else fields[0]
        there = models.get(accession, [])
        if len(there) == 1:
            files[gene] = (there[0], "")
        elif there:
            missing[gene] = f"its model comes in {len(there)} files ({some(f.name for f in there)})"
        else:
            missing[gene] = f"{folder.name} has no model of {accession}"
    return files, missing


def _of_table(request: FeatureRequest, path: Path) -> Found:
    """A csv or tsv of gene, file and chain."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise StateshiftError(f"{path} is no table of gene and file: it isn't text.") from error
    table = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = table.fieldnames or []
    lacking = [f"it has no column `{c}`{suggestion(c, columns)}." for c in ("gene", "file") if c not in columns]
    if lacking:
        raise InputProblems(str(path), lacking)
    files: dict[str, tuple[Path, str]] = {}
    problems = []
    for number, row in enumerate(table, start=2):
        gene, file = (row["gene"] or "").strip(), (row["file"] or "").strip()
        if not gene or not file:
            problems.append(f"line {number} lacks a gene or a file.")
        elif gene in files:
            problems.append(f"line {number}: `{gene}` is there twice.")
        else:
            files[gene] = (path.parent / file, (row.get("chain") or "").strip())
    wanted = set(request.genes)
    problems += [
        f"`{gene}`: there is no file {f}." for gene, (f, _) in files.items() if gene in wanted and not f.is_file()
    ]
    if problems:
        raise InputProblems(str(path), problems[:30])
    missing = {gene: f"not in {path.name}" for gene in request.genes if gene not in files}
    return {gene: files[gene] for gene in request.genes if gene in files}, missing


def _residue_model(residues: dict, aggregator: Path) -> str | None:
    """The ESM2 model that an aggregator takes, by its published name; None is the demo model."""
    from stateshift.proteins.esm2.models import DEMO, PUBLISHED

    name = residues.get("model")
    if name == DEMO:
        return None
    if name not in PUBLISHED:
        raise StateshiftError(
            f"{aggregator} takes rows of `{name or 'a model that it does not name'}`, which is no published ESM2 model: "
            "make vectors with `stateshift structure chains` and hand them over with --source table."
        )
    return name


def _listed(folder: Path) -> str:
    """A checksum of the names and sizes in a folder; that of thousands of models would take as long as reading them."""
    listed = "".join(f"{file.name} {file.stat().st_size}\n" for file in sorted(folder.iterdir()))
    return hashlib.sha256(listed.encode()).hexdigest()


def _embedded(
    files: dict[str, tuple[Path, str]], request: FeatureRequest, checkpoint: str | None, aggregator: Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Gene → vector of its chain, and gene → why there is none."""
    from stateshift.structure.pipeline import Models, Output, embed, read_vectors

    if not files:
        return {}, {}
    place = request.output.with_name(request.output.name + ".structures")
    place.mkdir(parents=True, exist_ok=True)
    # names that stay the same whatever genes a later run asks for, and that any symbol may have
    name_of = {
        gene: hashlib.sha256(f"{f.resolve()} {chain}".encode()).hexdigest()[:24] for gene, (f, chain) in files.items()
    }
    rows = {name_of[gene]: (name_of[gene], f.resolve(), chain, name_of[gene]) for gene, (f, chain) in files.items()}
    with (place / "jobs.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows.values())
    summary = embed("chains", place / "jobs.csv", Output(place, "vectors"), Models(checkpoint, aggregator=aggregator))
    made = json.loads((place / "vectors.json").read_text())["results"]
    vectors = {
        gene: next(iter(read_vectors(place / f"{made[name][0]}.pt").values()))
        for gene, name in name_of.items()
        if name in made
    }
    failed = {gene: summary.failures[name] for gene, name in name_of.items() if name in summary.failures}
    if not failed or request.missing != "error":
        shutil.rmtree(place)
    return vectors, failed
