"""One prediction against the truth: the public `evaluate` and what it returns and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

import stateshift
from stateshift.errors import StateshiftError
from stateshift.evaluation.ceilings import add_reliability, ceilings_and_floors, replicate_scores
from stateshift.evaluation.coverage import interval_coverage
from stateshift.evaluation.flags import find_flags
from stateshift.evaluation.further import read_second, with_baselines_of, with_training
from stateshift.evaluation.pairing import (
    ORACLE,
    Controls,
    Pairing,
    match_doubles,
    outline,
    pair_up,
    read_prediction,
    read_truth,
    refuse_spellings,
)
from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.scores import score_models, summarise
from stateshift.files import refuse_output

if TYPE_CHECKING:
    from anndata import AnnData


def evaluate(
    predicted: Path | str | AnnData,
    truth: Path | str | AnnData,
    *,
    output: Path | str | None = None,
    perturbation: str | None = None,
    context: str | None = None,
    control: str | None = None,
    scale: str | None = None,
    controls: Controls = "truth",
    against: Path | str | AnnData | None = None,
    training: Path | str | None = None,
    official: bool = False,
    responses: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Score a prediction, its baselines, floor and ceiling against measured cells, and flag what scores don't say.

    Effects of both sides are means of perturbed cells minus the mean of the truth's own controls, on log1p;
    counts are cut to the prediction's genes and brought to log1p of 1e4 first. The controls of a context are one
    mean over all of them, whatever their batch, while the effects of training are matched by batch
    (`stateshift.cells.estimate_effects`): where batches differ and hold unequal shares of a perturbation, a true
    effect carries that difference, for every model alike. Genes are matched by symbol, contexts by name,
    perturbations by name or, for doubles, by their set of genes (``A+B`` is ``B+A``).

    Parameters
    ----------
    predicted
        A prediction as in docs/contracts.md, whose ``uns["stateshift"]["baselines"]`` are scored beside it;
        or any tool's cells with a perturbation column, beside which stand no change (``control``) and
        ``mean of the truth (oracle)``, which no honest model could know.
    truth
        Measured cells of the same contexts, with controls.
    output
        A folder for ``scores.csv``, ``summary.csv``, ``ceilings.csv``, ``tiers.csv``, ``flags.csv`` and ``evaluation.json``.
    perturbation, context, control
        The truth's columns and its control's name; by default those that the prediction was made with, where the truth
        has them, else by convention.
    scale
        ``counts``, ``log1p_1e4`` or ``log1p``, where the truth's own values don't say; a prediction without
        ``uns["stateshift"]`` is taken to be on the same logarithm.
    controls
        Whose controls predicted effects are measured from: the ``truth``'s, or the prediction's ``own``, as published
        scores have it: what is wrong with those is part of no score then.
    against
        A second prediction on the same genes, scored as one more model: pairs that both hold are scored, with the paired
        difference of the two. Where the first holds no baselines, those of the second stand beside both.
    training
        Measured effects of the training cells (``stateshift effects estimate --split train``), for the means that a prediction
        without baselines is to be held against.
    official
        Also run cell-eval's ``vcc`` profile and its baseline-normalised score (extra ``official``). Its baseline
        is the mean of the truth's own group means, as cell-eval has it: an oracle.
    responses
        Also test which genes respond, on both sides against the truth's controls: DES, precision, directions, fold
        changes, areas, and the 2025 challenge's score, as cell-eval computes them (`response_scores`).
    overwrite
        Replace an evaluation in `output`.

    Raises
    ------
    StateshiftError
        Missing genes, controls or columns; NaN or infinite values; two scales; nothing shared; `output` exists.
    """
    if controls not in get_args(Controls):
        raise StateshiftError(f"--controls {controls}: there are {' and '.join(get_args(Controls))}.")
    if output is not None:
        refuse_output(output, overwrite)
    if official:
        from stateshift.evaluation.official import refuse_without_cell_eval

        refuse_without_cell_eval()
    declared = {"perturbation": perturbation, "cell_type": context, "control": control, "scale": scale}
    first = outline(predicted)
    made_with = [first.made_with] if against is None else [first.made_with, outline(against).made_with]
    true_cells, columns, left_out = read_truth(truth, declared, first.genes, first.context, made_with)
    prediction = read_prediction(predicted, declared, true_cells)
    prediction, true_cells, matched = match_doubles(prediction, true_cells)
    second = None if against is None else read_second(against, declared, true_cells, prediction)
    on_training: list[str] = []
    if training is not None:
        prediction, on_training = with_training(prediction, training, true_cells)
    elif second is not None:
        prediction, on_training = with_baselines_of(second, prediction)
    true_name, predicted_name = _name(truth, "the truth"), _name(predicted, "the prediction")
    for side in filter(None, (prediction, second)):
        refuse_spellings(side.cells, true_cells, Path(true_name).name)
    pairing = pair_up(prediction, true_cells, true_name, controls, second)
    notes = _on_baselines(prediction.baselines) + on_training + left_out + matched + pairing.notes
    scores = add_reliability(score_models(pairing), pairing)
    about = {
        "model": prediction.model,
        "controls": controls,
        "predicted": Path(predicted_name).name,
        "truth": Path(true_name).name,
        "columns": {"perturbation": columns.perturbation, "cell_type": columns.cell_type, "control": columns.control},
        "genes": len(pairing.genes),
        "scale": prediction.cells.scale,
        "simulated": prediction.simulated,
        "version": stateshift.__version__,
    }
    if second is not None:
        about["against"] = second.model
    covered = interval_coverage(scores, prediction.model)
    if len(covered):
        about["intervals"] = {"level": prediction.level, "by": covered.to_dict("records")}
    table = _official(prediction, true_cells, pairing, controls, notes) if official else None
    found = _responses(prediction, true_cells, pairing, controls, about, notes) if responses else None
    flagged = [find_flags(side, true_cells, pairing) for side in (prediction, second) if side is not None]
    flags = pd.concat([table for table in flagged if len(table)] or flagged[:1])
    ceilings = ceilings_and_floors(scores, replicate_scores(pairing))
    evaluation = Evaluation(
        scores, summarise(scores), about, notes, table, found, flags.reset_index(drop=True), ceilings
    )
    if output is not None:
        evaluation.save(output, overwrite)
    return evaluation


def _official(prediction: Any, truth: Any, pairing: Pairing, controls: Controls, notes: list[str]) -> pd.DataFrame:
    from stateshift.evaluation.official import official_scores

    table, more = official_scores(prediction.cells, truth, pairing, controls)
    notes += more
    return table


def _responses(
    prediction: Any, truth: Any, pairing: Pairing, controls: Controls, about: dict, notes: list[str]
) -> pd.DataFrame:
    from stateshift.evaluation.responses import response_scores

    table, about["responses"], more = response_scores(prediction.cells, truth, pairing, controls)
    notes += more
    return table


def _on_baselines(baselines: dict) -> list[str]:
    if baselines:
        return []
    return [
        "The prediction holds no baselines of its training: it is compared with no change (`control`) and with the "
        f"`{ORACLE}`, which is computed from the answers and is no model. --against RUN_PREDICTED.h5ad, a run's prediction of "
        "the same pairs, puts its baselines beside it; --training EFFECTS.h5ad (stateshift effects estimate EXPERIMENT.toml "
        "--split train) the means of what was trained on.",
    ]


def _name(source: Path | str | AnnData, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise
