"""A run's predictions as a season's `.vcc` file, without a prediction file between."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stateshift import __version__
from stateshift.cells import EffectTable
from stateshift.cells.loading import Storage
from stateshift.cells.matrix.cache import checksum
from stateshift.challenge.candidate import Candidate, opened_candidate
from stateshift.challenge.export.counts import counts_of
from stateshift.challenge.export.parts import Parts
from stateshift.challenge.export.submission import Submission, refuse_inputs, write_submission
from stateshift.challenge.lists import Targets, find_panel, read_gene_list, read_targets
from stateshift.challenge.seasons import Season, read_season
from stateshift.challenge.validation.validate import examine
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import sha256, written_beside
from stateshift.prediction.effects import PredictedEffects, predict_effects
from stateshift.prediction.emission import Emitter, match_training
from stateshift.prediction.prepared import Asked
from stateshift.progress import track
from stateshift.run import RunDirectory
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

STARTS_FROM = 512
"""Control cells a context from which effects are predicted, where `n_controls` names no other number."""
MEMORY_GB = 0.5
"""Of matrices held in memory while effects are predicted; larger ones stay on the disk."""


@left_alone()
def export_run(
    run: str | Path,
    *,
    cells: Path | str | Sequence[Path | str],
    season: str | Path,
    genes: Path | str,
    pert_counts: Path | str,
    output: Path | str,
    contexts: Sequence[str] | None = None,
    model: str = "transition",
    missing: str = "error",
    features: Path | str | None = None,
    n_cells: int | None = None,
    match_significant: bool = True,
    amplitude: float = 1.0,
    unmodelled: str = "error",
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    expected_gene_dim: int | None = None,
    overwrite: bool = False,
) -> Submission:
    """Predict a season's targets and write its `.vcc` file.

    Effects are predicted by the run, on every gene that it predicts, and emitted as whole counts onto the control
    cells (`stateshift.prediction.emission`). Each population is kept beside the output as soon as it is emitted; an
    export that was killed goes on with the rest when the same command is given again, and ends with the same bytes.
    Memory holds the control cells of one context.

    Parameters
    ----------
    run
        A run directory.
    cells
        The season's control cells, in one file or several: counts in ``X``, or log1p of them
        (`stateshift.challenge.export.counts`).
    season, genes, pert_counts, contexts, expected_gene_dim
        As for `stateshift.challenge.validate`; of a season of one context, its name where `cells` hold several.
    output
        The ``.vcc`` file; what is done of it lies in ``OUTPUT.parts`` until it is complete.
    model, missing, features, columns, seed
        As for `stateshift.prediction.predict`.
    n_cells
        Cells of each target, where neither the season nor `pert_counts` says how many.
    match_significant
        Draw dense small effects to zero until as many genes are significant as training perturbations of that size show
        (`stateshift.prediction.emission.match_significance`).
    amplitude
        What predicted effects are multiplied by: effects of least squared error are smaller than those of the best score
        (`stateshift.challenge.score_run` tells on validation targets).
    unmodelled
        Genes of the list that the run doesn't predict, since its training files don't measure them: ``error``, or
        ``control``, which draws them as the control cells have them.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputProblems
        Checks of the finished cells that did not pass.
    StateshiftError
        A gene of the season that the run doesn't predict, control cells that no counts lead to, or what `predict`
        refuses.
    """
    if not (np.isfinite(amplitude) and amplitude > 0):
        raise StateshiftError(f"--amplitude {amplitude:g}: a number above 0 is needed.")
    if n_cells is not None and n_cells < 1:
        raise StateshiftError(f"--n-cells {n_cells} has to be at least 1.")
    if unmodelled not in ("error", "control"):
        raise StateshiftError(f"--unmodelled {unmodelled}{suggestion(unmodelled, ('error', 'control'))}.")
    output, rules = Path(output), read_season(season)
    targets = read_targets(pert_counts, rules)
    panel = find_panel(list(contexts or []), targets, Path(genes))
    if panel is not None and panel.problem:
        raise StateshiftError(f"{panel.problem}.")
    files = [cells] if isinstance(cells, str | Path) else list(cells)
    refuse_inputs(output, [*files, genes, pert_counts, features])
    with opened_candidate(files, rules.cells) as controls:
        wanted = _contexts(controls, rules, [] if panel is None else panel.contexts)
        order = [(c, t) for c in wanted for t in sorted(targets.of(c))]
        numbers = [_number(targets, c, t, n_cells) for c, t in order]
        gene_list = read_gene_list(genes, controls.genes).genes
        about = {
            "run": RunDirectory(Path(run)).checksums(),
            "cells": [checksum(Path(file)) for file in files],
            "features": None if features is None else sha256(features),
            "missing": missing,
            "columns": dict(columns or {}),
            "genes": gene_list,
            "populations": [[*pair, n] for pair, n in zip(order, numbers)],
            "model": model,
            "match_significant": match_significant,
            "amplitude": amplitude,
            "unmodelled": unmodelled,
            "seed": seed,
            "version": __version__,
        }
        parts = Parts(output.with_name(f"{output.name}.parts"), about)
        with parts.kept_on_errors(), written_beside(output, overwrite) as part:
            if not all(parts.has(i) for i in range(len(order))):
                asked = Asked(
                    files[0],
                    perturb=sorted({t for _, t in order}),
                    contexts=wanted,
                    model=model,
                    features=features,
                    missing=missing,
                    n_cells=_starts(controls, wanted),
                    columns=columns,
                    seed=seed,
                    storage=Storage(MEMORY_GB, parts.folder / "cells"),
                    baselines=False,
                )
                effects = _predicted(run, asked, files, rules)
                train = _training_effects(Path(run)) if match_significant else None
                _emit(parts, controls, effects, order, numbers, gene_list, seed, train, unmodelled, amplitude)
            found = _candidate(parts, order, numbers, gene_list, controls, wanted, rules)
            real = files if rules.cells.context else None
            done = examine(found, rules, genes, targets, panel, real, expected_gene_dim)
            # what a kill leaves half written goes with the folder of the parts
            whole = parts.folder / output.name
            with written_beside(whole, overwrite=True) as scratch:
                made = write_submission(scratch, output, done)
            os.replace(whole, part)
    parts.remove()
    return made


def _predicted(run: str | Path, asked: Asked, files: Sequence[Path | str], rules: Season) -> PredictedEffects:
    """Effects in all contexts, each from the file of its control cells; of a context in several, from the last."""
    found = []
    for file in files:
        with opened_candidate(file, rules.cells) as controls:
            here = set(controls.contexts[controls.is_control])
        if here & set(asked.contexts):
            contexts = [context for context in asked.contexts if context in here]
            found.append(predict_effects(run, replace(asked, cells=file, contexts=contexts)))
    joined = {name: [one for of in found for one in getattr(of, name)] for name in ("pairs", "routes", "regimes")}
    return replace(found[0], values=np.concatenate([of.values for of in found]), **joined)


def _contexts(controls: Candidate, rules: Season, named: list[str]) -> list[str]:
    """The contexts to predict in, each with control cells."""
    where = controls.where
    if controls.contexts is None:
        raise StateshiftError(f"{where}: obs has no column for the context; it has {', '.join(controls.columns)}.")
    have = sorted(set(controls.contexts[controls.is_control]))
    wanted = named or have
    absent = [c for c in wanted if c not in have]
    if absent:
        raise StateshiftError(f"{where} has no control cells of context `{absent[0]}`{suggestion(absent[0], have)}.")
    if rules.cells.context is None and len(wanted) > 1:
        raise StateshiftError(
            f"{where} has control cells of {some(wanted)}: the season's file holds one context, name it with --contexts."
        )
    return wanted


def _number(targets: Targets, context: str, target: str, n_cells: int | None) -> int:
    """How many cells of a target are emitted: as the season or its list says, or as asked."""
    number = targets.of(context)[target]
    if number is None and n_cells is None:
        raise StateshiftError(
            f"Neither the season nor {targets.path} says how many cells of {target} to predict: name --n-cells."
        )
    return number if number is not None else n_cells


def _starts(controls: Candidate, contexts: list[str]) -> int:
    """How many control cells of each context effects are predicted from."""
    counts = [int((controls.is_control & (controls.contexts == c)).sum()) for c in contexts]
    return min(STARTS_FROM, *counts)


def _emit(
    parts: Parts,
    controls: Candidate,
    effects: PredictedEffects,
    order: list[tuple[str, str]],
    numbers: list[int],
    genes: list[str],
    seed: int,
    train: EffectTable | None,
    unmodelled: str,
    amplitude: float,
) -> None:
    """Emit what is not emitted yet, a context at a time; `train` says how many genes may be significant."""
    if effects.scale != "log1p_1e4":
        raise StateshiftError(
            f"The run is on scale {effects.scale}, of which the size factor is unknown: counts are emitted from log1p_1e4. "
            'Train with [columns] scale = "to_1e4", which brings log1p of any total to it, or predict with `stateshift '
            "predict` and export the predicted h5ad."
        )
    places = pd.Index(effects.genes).get_indexer(genes)
    modelled = places >= 0
    absent = [gene for gene, is_one in zip(genes, modelled) if not is_one]
    if absent and unmodelled == "error":
        raise StateshiftError(
            f"The run predicts {len(effects.genes):,} genes, and not {len(absent):,} of the season's {len(genes):,}: "
            f"{some(absent)}. Train on files that measure them, draw them as in the control cells with --unmodelled "
            "control, or name a shorter list with --genes and --expected-gene-dim -1."
        )
    if absent:
        logger.warning("%s genes that the run doesn't predict are drawn as in the control cells", f"{len(absent):,}")
    row = {pair: i for i, pair in enumerate(effects.pairs)}
    absent = sorted({t for c, t in order if (c, t) not in row})
    if absent:
        raise StateshiftError(f"The run did not predict {some(absent)}.")
    todo = [i for i in range(len(order)) if not parts.has(i)]
    for context in dict.fromkeys(order[i][0] for i in todo):
        wanted = controls.is_control & (controls.contexts == context)
        batches = None if controls.batches is None else controls.batches[wanted]
        emitter = Emitter(_control_counts(controls, wanted, genes), context, batches)
        match = None
        if train is not None:
            variances, n0 = emitter.controls.variances[modelled], len(emitter.controls.depths)
            match = match_training(train, np.asarray(genes, object)[modelled], variances, n0)
        for i in track([i for i in todo if order[i][0] == context], f"emitting cells of {context}"):
            target, effect = order[i][1], np.zeros(len(genes), np.float32)
            effect[modelled] = amplitude * effects.values[row[order[i]]][places[modelled]]
            if match is not None:
                effect[modelled] = match.shrink(effect[modelled], numbers[i])
            parts.write(i, emitter.emit(effect, numbers[i], seed=seed, target=target))


def _training_effects(run: Path) -> EffectTable | None:
    """The run's measured effects, from which the share of significant genes is learned."""
    directory = RunDirectory(run)
    if not directory.effects_file.is_file():
        logger.warning("the run holds no training effects: significant genes are not matched to them")
        return None
    return EffectTable.load(directory.effects_file)


def _control_counts(controls: Candidate, wanted: np.ndarray, genes: list[str]) -> csr_matrix:
    """Control cells of a mask (n,) on the season's genes."""
    places = pd.Index(controls.genes).get_indexer(genes)
    if (places < 0).any():
        absent = [gene for gene, place in zip(genes, places) if place < 0]
        raise StateshiftError(f"{controls.where} lacks {len(absent):,} of the season's genes: {some(absent)}.")
    X = vstack([counts_of(X, controls.where)[:, places] for _, X in controls.blocks(wanted)], format="csr")
    X.sort_indices()
    return X


def _candidate(
    parts: Parts,
    order: list[tuple[str, str]],
    numbers: list[int],
    genes: list[str],
    controls: Candidate,
    contexts: list[str],
    rules: Season,
) -> Candidate:
    """The emitted cells, and the control cells of a season that wants them, as one prediction."""
    kept = np.flatnonzero(controls.is_control & np.isin(controls.contexts, contexts)) if rules.cells.controls else []
    own = [np.repeat([pair[k] for pair in order], numbers).astype(object) for k in (0, 1)]
    of_controls = np.array([], object) if controls.contexts is None else controls.contexts[kept]
    n = sum(numbers)

    def read() -> Iterator[tuple[int, csr_matrix]]:
        yield from parts.all(len(order))
        if len(kept):
            mask = np.zeros(controls.n, bool)
            mask[kept] = True
            before, places = n, pd.Index(controls.genes).get_indexer(genes)
            for _, X in controls.blocks(mask):
                X = counts_of(X, controls.where)[:, places]
                X.sort_indices()
                yield before, X
                before += X.shape[0]

    return Candidate(
        "the export",
        genes,
        np.concatenate([own[1], np.full(len(kept), rules.cells.control, object)]),
        np.concatenate([own[0], of_controls]),
        None,
        rules.cells.control,
        ["target_gene", "context"],
        {"stateshift": {"scale": "counts", "control": rules.cells.control}},
        read,
        n + len(kept),
    )
