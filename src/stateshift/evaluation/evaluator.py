"""One prediction against the truth: the public `evaluate` and what it returns and writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import stateshift
from stateshift.errors import StateshiftError
from stateshift.evaluation.coverage import interval_coverage
from stateshift.evaluation.flags import COLUMNS as FLAG_COLUMNS
from stateshift.evaluation.flags import find_flags, flags_frame
from stateshift.evaluation.inputs import genes_and_context, read_prediction, read_truth
from stateshift.evaluation.pairing import ORACLE, Pairing, match_doubles, pair_up
from stateshift.evaluation.scores import score_models, summarise
from stateshift.files import written_beside

SCORE_COLUMNS = [
    "context",
    "perturbation",
    "model",
    "route",
    "regime",
    "n_predicted",
    "n_true",
    "pearson_delta",
    "mae",
    "mse",
    "pds_l1",
    "pds_cosine",
    "covered",
    "half_width",
]
ADDED_COLUMNS = ("regime", "covered", "half_width")
"""Columns that evaluations of earlier versions lack."""
SUMMARY_COLUMNS = ["context", "model", "metric", "mean", "n", "difference", "low", "high", "pairs", "perturbations"]

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass
class Evaluation:
    """Scores of a prediction and of its baselines.

    Parameters
    ----------
    scores
        One row a (context, perturbation, model); a column a metric, and ``route``, ``regime``, ``n_predicted``,
        ``n_true``; of the model and of the mean baseline ``covered`` and ``half_width`` of their intervals.
    summary
        One row a (context, model, metric): mean, and the model's difference to that baseline with interval.
    about
        ``model``, ``predicted``, ``truth``, ``genes``, ``scale``, ``simulated``, ``version``; of a prediction with
        intervals ``intervals``: their level, and the rows of `stateshift.evaluation.interval_coverage`.
    notes
        Sentences on what was left out and why.
    official
        cell-eval's scores a context (``des``, ``pds``, ``mae``, ``score``), if they were asked for.
    responses
        One row a (context, perturbation) with the columns of `stateshift.evaluation.seasons.Score2025`, if they were
        asked for; ``about["responses"]`` then has their means and the score of each context.
    flags
        What the scores don't say (`stateshift.evaluation.flags.find_flags`): one row a finding, empty where all is well.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    official: pd.DataFrame | None = None
    responses: pd.DataFrame | None = None
    flags: pd.DataFrame = field(default_factory=lambda: flags_frame([]))

    @property
    def model(self) -> str:
        """The evaluated model's name."""
        return self.about["model"]

    @property
    def baselines(self) -> list[str]:
        """The other models' names, in the order of the tables."""
        return [name for name in self.scores["model"].unique() if name != self.model]

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write ``scores.csv``, ``summary.csv``, ``flags.csv``, ``evaluation.json``; where there ``official.csv``, ``responses.csv``.

        Raises
        ------
        StateshiftError
            The folder exists and `overwrite` is not set; only an evaluation's own files are replaced.
        """
        folder = Path(folder)
        texts = {"scores.csv": self.scores.to_csv(index=False), "summary.csv": self.summary.to_csv(index=False)}
        texts["flags.csv"] = self.flags.to_csv(index=False)
        texts["evaluation.json"] = json.dumps({**self.about, "notes": self.notes}, indent=2) + "\n"
        further = {"official.csv": self.official, "responses.csv": self.responses}
        texts |= {name: table.to_csv(index=False) for name, table in further.items() if table is not None}
        if folder.is_dir() and overwrite:
            for name, text in texts.items():
                with written_beside(folder / name, overwrite=True) as part:
                    part.write_text(text)
            for name in set(further) - set(texts):
                (folder / name).unlink(missing_ok=True)
            return folder
        with written_beside(folder) as part:
            part.mkdir()
            for name, text in texts.items():
                (part / name).write_text(text)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what `save` wrote."""
        folder = Path(folder)
        absent = [n for n in ("scores.csv", "summary.csv", "evaluation.json") if not (folder / n).is_file()]
        if absent:
            raise StateshiftError(f"{folder} is no evaluation: it has no {', '.join(absent)}.")
        official, responses = folder / "official.csv", folder / "responses.csv"
        texts = {"context": str, "perturbation": str, "model": str, "route": str, "regime": str}
        try:
            about = json.loads((folder / "evaluation.json").read_text())
            scores = pd.read_csv(folder / "scores.csv", dtype=texts, keep_default_na=False, na_values=[""])
            scores = scores.assign(**{name: float("nan") for name in ADDED_COLUMNS if name not in scores})
            scores["regime"] = scores["regime"].astype(object).fillna("")
            return cls(
                scores[SCORE_COLUMNS],
                pd.read_csv(folder / "summary.csv", dtype=texts, keep_default_na=False, na_values=[""])[
                    SUMMARY_COLUMNS
                ],
                {key: value for key, value in about.items() if key != "notes"},
                about.get("notes", []),
                pd.read_csv(official, dtype=texts) if official.is_file() else None,
                pd.read_csv(responses, dtype=texts) if responses.is_file() else None,
                _read_flags(folder / "flags.csv"),
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise StateshiftError(f"{folder} holds a damaged or older evaluation ({error}): evaluate again.") from error


def evaluate(
    predicted: Path | str | AnnData,
    truth: Path | str | AnnData,
    *,
    output: Path | str | None = None,
    perturbation: str | None = None,
    context: str | None = None,
    control: str | None = None,
    scale: str | None = None,
    official: bool = False,
    responses: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Score a prediction and its baselines against measured cells.

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
        A folder for ``scores.csv``, ``summary.csv`` and ``evaluation.json``.
    perturbation, context, control
        The truth's columns and its control's name, where they don't go by convention.
    scale
        ``counts``, ``log1p_1e4`` or ``log1p``, where the truth's own values don't say; a prediction without
        ``uns["stateshift"]`` is taken to be on the same logarithm.
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
        Missing genes, controls or columns; NaN; two scales; nothing shared; `output` exists.
    """
    if output is not None and Path(output).exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name or pass --overwrite where offered.")
    declared = {"perturbation": perturbation, "cell_type": context, "control": control, "scale": scale}
    genes, only_context = genes_and_context(predicted)
    true_cells, left_out = read_truth(truth, declared, genes, only_context)
    prediction = read_prediction(predicted, declared, true_cells)
    prediction, true_cells, matched = match_doubles(prediction, true_cells)
    true_name, predicted_name = _name(truth, "the truth"), _name(predicted, "the prediction")
    pairing = pair_up(prediction, true_cells, true_name)
    notes = _on_baselines(prediction.baselines) + left_out + matched + pairing.notes
    scores = score_models(pairing)
    about = {
        "model": prediction.model,
        "predicted": Path(predicted_name).name,
        "truth": Path(true_name).name,
        "genes": len(pairing.genes),
        "scale": prediction.cells.scale,
        "simulated": prediction.simulated,
        "version": stateshift.__version__,
    }
    covered = interval_coverage(scores, prediction.model)
    if len(covered):
        about["intervals"] = {"level": prediction.level, "by": covered.to_dict("records")}
    table = _official(prediction, true_cells, pairing, notes) if official else None
    found = _responses(prediction, true_cells, pairing, about, notes) if responses else None
    flags = find_flags(prediction, true_cells, pairing)
    evaluation = Evaluation(scores, summarise(scores), about, notes, table, found, flags)
    if output is not None:
        evaluation.save(output, overwrite)
    return evaluation


def _read_flags(path: Path) -> pd.DataFrame:
    """The flags; none where an earlier version wrote the folder."""
    if not path.is_file():
        return flags_frame([])
    texts = dict.fromkeys(("name", "kind", "model", "context", "perturbation", "meaning"), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False)[FLAG_COLUMNS]


def _official(prediction: Any, truth: Any, pairing: Pairing, notes: list[str]) -> pd.DataFrame:
    from stateshift.evaluation.official import official_scores

    table, more = official_scores(prediction.cells, truth, pairing)
    notes += more
    return table


def _responses(prediction: Any, truth: Any, pairing: Pairing, about: dict, notes: list[str]) -> pd.DataFrame:
    from stateshift.evaluation.responses import response_scores

    table, about["responses"], more = response_scores(prediction.cells, truth, pairing)
    notes += more
    return table


def _on_baselines(baselines: dict) -> list[str]:
    if baselines:
        return []
    return [
        "The prediction holds no baselines of its training: it is compared with no change (`control`) and with the "
        f"`{ORACLE}`, which is computed from the answers and is no model."
    ]


def _name(source: Path | str | AnnData, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise
