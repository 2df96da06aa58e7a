"""BioEmb features: a table fine-tuned here, or any table's vectors through the bottleneck of a finished run."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stateshift.bioemb.codes import Codes
from stateshift.bioemb.settings import DataSettings, Settings
from stateshift.bioemb.trained import TrainedBioEmb, open_bioemb
from stateshift.cells import held_out_genes
from stateshift.errors import StateshiftError, some
from stateshift.feature_table import FeatureTable
from stateshift.features.registry import ZEROS, FeatureRequest, reads
from stateshift.files import sha256

logger = logging.getLogger(__name__)


READS = "a feature table, or a run of `stateshift bioemb train`"


def genes_not_in_input(request: FeatureRequest) -> dict[str, str]:
    """Requested genes that the table, or that of the run, has no vector of its own for."""
    path = request.file(READS)
    table = FeatureTable.load(path / "input.pt" if path.is_dir() else path)
    return request.matched(table.genes, f"not in {path.name}", reasons=_unknown(table))[1]


@reads("lookup", "transductive", lacking=genes_not_in_input)
def bioemb_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' fine-tuned vectors, from ``request.lookup``: a feature table, or a run of ``bioemb train``.

    A table is fine-tuned with the preset ``genes`` on all its genes but those that the experiment holds out
    (``training genes only``), or on all of them (``transductive``); the run stays beside the output, as
    ``OUTPUT_run``, is gone on with where it was stopped, and read where it has ended. The provenance says which it
    was and which of the requested genes were fitted (``fitted_of_these``).

    Raises
    ------
    StateshiftError
        Neither is named, it can't be read, what a table is fitted on isn't said, or genes are lacking and the policy is
        ``error``.
    """
    path = request.file(READS)
    trained = _run(path, request) if path.is_dir() else _fine_tuned(path, request)
    table = trained.fine_tuned()
    fitted = set(trained.fitted)
    fitted_here = [gene for gene in request.genes if gene in fitted]
    provenance = {key: value for key, value in table.provenance.items() if key != "not_fitted"}
    provenance |= {"lookup": path.name, "fitted_of_these": fitted_here}
    provenance["lookup_sha256"] = provenance["model_sha256"] if path.is_dir() else sha256(path)
    return request.picked(
        table.genes, table.vectors, provenance, f"not in {path.name}", reasons=_unknown(trained.table)
    )


def _unknown(table: FeatureTable) -> dict[str, str]:
    """Genes that the input has no vector of their own for, which the bottleneck would make one of; and why."""
    empty = table.without_filled()
    filled = table.provenance.get("missing_policy", {})
    return {
        gene: f"filled in (--missing {filled[gene]}) when the input was made" if gene in filled else ZEROS
        for gene, vector in zip(empty.genes, empty.vectors)
        if not vector.any()
    }


def _run(folder: Path, request: FeatureRequest) -> TrainedBioEmb:
    """A finished run; that it was fitted on what the experiment holds out is told."""
    if request.transductive:
        raise StateshiftError(f"{folder} is a run, which is fitted already: leave out --transductive.")
    trained = open_bioemb(folder)
    if request.experiment is not None:
        fitted = set(trained.fitted)
        seen = [gene for gene in held_out_genes(request.experiment) if gene in fitted]
        if seen:
            logger.warning(
                "%s was fitted on the vectors of %s, which %s holds out: for genes unseen in every respect train it with "
                "data.held_out=%s.",
                folder, some(seen, 3), request.experiment.path.name, request.experiment.path,
            )  # fmt: skip
    return trained


def _fine_tuned(path: Path, request: FeatureRequest) -> TrainedBioEmb:
    """A table fine-tuned here, or what an earlier call made of it."""
    from stateshift.bioemb.training.train import fitted_genes, open_or_resume, train_on

    if request.experiment is None and not request.transductive:
        raise StateshiftError(
            f"Which genes of {path} may be fitted? Name an experiment (--from-toml), whose held-out genes are left out, or "
            "fit all with --transductive; or train with  stateshift bioemb train --config genes data.held_out=LIST  and "
            "name that run with --lookup."
        )
    held_out = None if request.transductive else str(request.experiment.path)
    data = DataSettings(table=str(path), held_out=held_out, transductive=request.transductive)
    output = request.output
    settings = Settings(name=f"{output.stem}_run", output_dir=str(output.parent), data=data)
    folder, table = settings.folder, FeatureTable.load(path)
    if not (folder / "codes.npz").is_file():
        return train_on(settings, table)
    kept = FeatureTable.load(folder / "input.pt")
    same = kept.genes == table.genes and np.array_equal(kept.vectors, table.vectors)
    if not same or Codes.load(folder / "codes.npz").genes != fitted_genes(table, data):
        raise StateshiftError(
            f"{folder} is a run on another table or other genes: move it away, or name another output."
        )
    logger.info("%s is a run on this table and is gone on with.", folder)
    return open_or_resume(folder)
