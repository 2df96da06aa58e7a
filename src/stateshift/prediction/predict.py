"""Predict perturbed cells from a run and control cells."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift import __version__
from stateshift.effects import BASELINES
from stateshift.errors import StateshiftError
from stateshift.files import h5ad_bytes, plain_strings, refuse_output, reserve_room, written_beside
from stateshift.prediction.asked.cells import named_columns
from stateshift.prediction.contract import add_intervals, assemble
from stateshift.prediction.intervals.calibrator import Calibrator, stored_validation
from stateshift.prediction.intervals.half_widths import find_intervals, widened_by_few_controls
from stateshift.prediction.prepared import Asked, prepare, refuse_contradictions
from stateshift.run import RunDirectory
from stateshift.surroundings import left_alone

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


@left_alone()
def predict(
    run: str | Path | Sequence[str | Path],
    *,
    cells: str | Path,
    perturb: str | Path | Sequence[str] | None = None,
    output: str | Path,
    split: str | None = None,
    contexts: Sequence[str] | None = None,
    model: str = "transition",
    features: str | Path | None = None,
    fasta: str | Path | None = None,
    checkpoint: str | None = None,
    missing: str = "error",
    n_cells: int | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Predict perturbations of the control cells of an AnnData file.

    All genes of the training files are predicted. ``var["modelled_by"]`` says how each came about: ``network``;
    ``decoder``, the network's gene decoder; or ``effect``: the control cells moved by ridge effects of the training
    cells, as where the network was trained on ``obsm["X_hvg"]`` alone, or by the effect model that was named.

    Parameters
    ----------
    run
        A run directory; or one of arc-state's, or its checkpoint, which hold no effects of their training cells
        and so give no baselines. Several runs of one training with other seeds are an ensemble: their cells are averaged.
    cells
        An h5ad file with control cells; perturbed cells in it are not looked at. Its columns go by the
        experiment's ``[columns]`` or by convention.
    perturb
        Perturbations: a file, a comma list or a sequence; ``A+B`` is a double, in any order of its genes.
    output
        The h5ad file to write.
    split
        ``test`` or ``val`` in place of `perturb`: every pair of that split of the run.
    contexts
        Cell types of `cells` to predict in; default all with control cells.
    model
        ``transition``, or an effect model (`EFFECT_MODELS`): ``stack``, ``mean``, ``ridge``, ….
    features
        A table with the vectors of genes that the run's own lacks.
    fasta, checkpoint
        Of a run with ``model.encoder=esm``: the proteins of genes that no table holds, and the ESM2 model that embeds
        them, where the run's own FASTA and checkpoint are not there any more.
    missing
        For genes without a vector: ``error``; ``drop``, which leaves them out by name; or ``fallback``, which
        predicts the mean training effect and marks the cells with route ``fallback``.
    n_cells
        Predicted cells a perturbation and context; default one a control cell.
    columns
        The cells' ``perturbation``, ``cell_type`` and ``control`` where they are named otherwise than in training
        and by no convention.
    seed
        Draws the control cells, and deals them to sets.
    overwrite
        Whether `output` may be replaced.

    Returns
    -------
    Path
        `output`: an AnnData by the prediction contract (``docs/contracts.md``). It reads ``X``, the columns
        of ``obs``, and ``obsm`` where the run was trained on an array there; it writes obs ``target_gene``,
        ``context``, ``is_control``, ``route``, ``regime``, ``n_sources``, ``nearest``, ``nearest_gene``, ``interval``,
        var ``modelled_by`` and ``uns["stateshift"]``.

    Raises
    ------
    StateshiftError
        Unknown model, context or gene; genes of the run absent from the cells; no control cells; a
        prediction equal to its controls; runs that are no ensemble.
    """
    output = Path(output)
    if output.suffix != ".h5ad":
        raise StateshiftError(f"{output}: a prediction is written as .h5ad, name {output.with_suffix('.h5ad').name}.")
    if output.resolve() == Path(cells).resolve():
        raise StateshiftError(f"{output} is both the --cells and the --output: choose another output.")
    refuse_output(output, overwrite)
    asked = Asked(cells, perturb, split, contexts, model, features, fasta, checkpoint, missing, n_cells, columns, seed)
    refuse_contradictions(asked)
    from stateshift.transition.arc.run import opened_run

    runs = [run] if isinstance(run, str | Path) else list(run)
    with contextlib.ExitStack() as opened:
        members = [opened.enter_context(opened_run(one)) for one in runs]
        adata = _predict(members, asked)
        digest = _digest(members)
    about = adata.uns["stateshift"]
    names = [os.path.basename(os.path.abspath(one)) for one in runs]
    about["run"], about["run_sha256"] = names[0], digest
    if len(runs) > 1:
        about["ensemble"]["runs"] = np.array(names, dtype=object)
    with written_beside(output, overwrite) as part, plain_strings():
        dense = [*about.get("baselines", {}).get("effects", {}).values(), *about.get("intervals", {}).values()]
        reserve_room(part, h5ad_bytes(adata.X) + sum(a.nbytes for a in dense if isinstance(a, np.ndarray)))
        adata.write_h5ad(part)
    logger.info("%s: %d cells, %d predicted", output, adata.n_obs, (~adata.obs["is_control"]).sum())
    return output


def _digest(members: list[RunDirectory]) -> str:
    """Of all files that the runs predict by, so that parts of two runs of one name aren't joined."""
    held = [f"{name} {digest}" for member in members for name, digest in member.checksums().items()]
    return hashlib.sha256("\n".join(held).encode()).hexdigest()


def _predict(members: list[RunDirectory], asked: Asked) -> AnnData:
    """The prediction as an AnnData."""
    ready, directory = prepare(members, asked), members[0]
    population, output, pairs, train = ready.cells, ready.output, ready.pairs, ready.train
    adata, made = assemble(population, ready.requests, ready.predicted, ready.routes, ready.support)
    adata.var["modelled_by"] = pd.Categorical(ready.modelled_by)
    about = {
        "scale": output.scale,
        "control": population.control,
        "columns": {
            r: n for r, n in named_columns(directory, asked.columns).items() if r in ("perturbation", "cell_type")
        },
        "model": directory.config()["model"]["name"] if asked.model == "transition" else asked.model,
        "version": __version__,
        "seed": asked.seed,
    }
    if ready.effects:
        about["baselines"] = {
            "context": np.array([c for c, _ in pairs], dtype=object),
            "target_gene": np.array([p for _, p in pairs], dtype=object),
            "genes": np.array(output.genes, dtype=object),
            "effects": {name: ready.effects[name] for name in BASELINES},
        }
    if population.simulated:
        about["simulated"] = True
    adata.uns["stateshift"] = about
    if len(members) > 1:
        about["ensemble"] = {"spread": ready.predicted.spread}
    if train is not None:
        backbone = (
            asked.model if asked.model != "transition" else "stack" if "stack" in ready.effect_models else "ridge"
        )
        validation, apart = None, None
        if asked.model == "transition":
            validation, apart = stored_validation(members, output.genes, ready.backbones)
        calibrator = Calibrator(ready.effect_models, train, ready.table, asked.seed, validation, apart)
        spread = ready.predicted.spread.mean(axis=1) if len(members) > 1 else None
        intervals = find_intervals(calibrator, backbone, pairs, ready.routes, ready.support, spread, ready.fallback)
        widened_by_few_controls(intervals, output, pairs, train)
        add_intervals(adata, pairs, ready.support, made, intervals, output.genes)
    return adata
