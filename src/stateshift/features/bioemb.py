"""BioEmb features: any table's vectors through the bottleneck of a finished run."""

from __future__ import annotations

import logging
from pathlib import Path

from stateshift.errors import some
from stateshift.feature_table import FeatureTable
from stateshift.features.sources import FeatureRequest

logger = logging.getLogger(__name__)


def bioemb_features(request: FeatureRequest) -> FeatureTable:
    """The requested genes' fine-tuned vectors, from ``request.lookup``: a run of ``stateshift bioemb train``.

    The provenance says whether the run was fitted on all genes of its table (``transductive``) or kept some away
    (``training genes only``), and which of the requested genes it was fitted on (``fitted_of_these``).

    Raises
    ------
    StateshiftError
        No run is named, it can't be read, or its table lacks genes and the policy is ``error``.
    """
    from stateshift.bioemb.trained import open_bioemb

    path = Path(request.file("a run of `stateshift bioemb train`"))
    trained = open_bioemb(path)
    table = trained.fine_tuned()
    fitted = set(trained.fitted)
    fitted_here = [gene for gene in request.genes if gene in fitted]
    provenance = {key: value for key, value in table.provenance.items() if key != "not_fitted"}
    provenance |= {"lookup": path.name, "lookup_sha256": provenance.pop("model_sha256"), "fitted_of_these": fitted_here}
    if provenance["fit"] == "transductive":
        logger.info(
            "%s was fitted on the vectors of every gene, %s too: for unseen genes train it with data.held_out.",
            path.name,
            some(fitted_here, 3),
        )
    return request.picked(table.genes, table.vectors, provenance, "not in the run's input table")
