"""What an evaluation found, written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stateshift.cells.regimes import REGIMES
from stateshift.errors import StateshiftError
from stateshift.evaluation.ceilings import COLUMNS as CEILING_COLUMNS
from stateshift.evaluation.ceilings import tiers
from stateshift.evaluation.flags import COLUMNS as FLAG_COLUMNS
from stateshift.evaluation.flags import flags_frame
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.files import read_json, written_beside

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
    "reliability",
    "tier",
]
ADDED_COLUMNS = ("regime", "covered", "half_width", "reliability", "tier")
"""Columns that evaluations of earlier versions lack."""
ABOUT: dict[str, Any] = {
    **dict.fromkeys(("model", "against", "controls", "predicted", "truth", "scale", "version"), str),
    "columns": {"perturbation": str, "cell_type": str, "control": str},
    "genes": int,
    "simulated": bool,
    "notes": [str],
    "intervals": {"level": float, "by": [{"regime": str, "pairs": int, "covered": float}]},
    "responses": {"*": {"*": float}},
}
"""What ``evaluation.json`` may hold: a kind, a list of one, or an object with what it needs, ``*`` for any name."""
SUMMARY_COLUMNS = ["context", "model", "metric", "mean", "n", "difference", "low", "high", "pairs", "perturbations"]


@dataclass
class Evaluation:
    """Scores of a prediction and of its baselines.

    Parameters
    ----------
    scores
        One row a (context, perturbation, model); a column a metric, and ``route``, ``regime``, ``n_predicted``,
        ``n_true``; of the model and of the mean baseline ``covered`` and ``half_width`` of their intervals; of the measured
        effect ``reliability`` (correlation of the effects of two halves of its cells) and ``tier``.
    summary
        One row a (context, model, metric): mean, and the model's difference to that baseline with interval.
    about
        ``model``, ``against`` (the second prediction's name, if there is one), ``controls``, ``predicted``, ``truth``, ``columns``
        (the truth's ``perturbation``, ``cell_type`` and ``control``), ``genes``, ``scale``, ``simulated``, ``version``; of a prediction with
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
    ceilings
        Floor, ceiling, share of the gap closed and harm (`stateshift.evaluation.ceilings.ceilings_and_floors`).
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    official: pd.DataFrame | None = None
    responses: pd.DataFrame | None = None
    flags: pd.DataFrame = field(default_factory=lambda: flags_frame([]))
    ceilings: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CEILING_COLUMNS))

    @property
    def model(self) -> str:
        """The evaluated model's name."""
        return self.about["model"]

    @property
    def baselines(self) -> list[str]:
        """The other models' names, in the order of the tables; a second prediction is none of them."""
        predictions = (self.model, self.about.get("against"))
        return [name for name in self.scores["model"].unique() if name not in predictions]

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the tables as ``scores.csv``, ``summary.csv``, ``ceilings.csv``, ``tiers.csv``, ``flags.csv``, and ``evaluation.json``.

        Where there, ``official.csv`` and ``responses.csv`` too.

        Raises
        ------
        StateshiftError
            The folder exists and `overwrite` is not set; only an evaluation's own files are replaced.
        """
        folder = Path(folder)
        texts = {"scores.csv": self.scores.to_csv(index=False), "summary.csv": self.summary.to_csv(index=False)}
        texts["flags.csv"], texts["ceilings.csv"] = self.flags.to_csv(index=False), self.ceilings.to_csv(index=False)
        if "tier" in self.scores:
            texts["tiers.csv"] = tiers(self.scores).to_csv(index=False)
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
        columns = dict.fromkeys(("context", "perturbation", "model", "route", "regime", "tier"), str)
        # a context may be called NA
        as_written = {"dtype": columns, "keep_default_na": False, "na_values": [""]}
        try:
            about = read_json(folder / "evaluation.json", "Evaluate again.")
            if "model" not in about:
                raise ValueError("evaluation.json names no model")
            if strange := [key for key, kind in ABOUT.items() if key in about and not _is_like(about[key], kind)]:
                raise ValueError(f"`{strange[0]}` of evaluation.json is of another kind")
            scores = pd.read_csv(folder / "scores.csv", **as_written)
            scores = scores.assign(**{name: float("nan") for name in ADDED_COLUMNS if name not in scores})
            for name in ("regime", "tier"):
                scores[name] = scores[name].astype(object).fillna("")
            scores = scores[SCORE_COLUMNS]
            summary = pd.read_csv(folder / "summary.csv", **as_written)[SUMMARY_COLUMNS]
            _refuse_no_numbers(scores, [*columns], "scores.csv")
            _refuse_no_numbers(summary, [*columns, "metric"], "summary.csv")
            _refuse_inconsistent(scores, summary, [about["model"], about.get("against", about["model"])])
            return cls(
                scores,
                summary,
                {key: value for key, value in about.items() if key != "notes"},
                about.get("notes", []),
                pd.read_csv(official, **as_written) if official.is_file() else None,
                pd.read_csv(responses, **as_written) if responses.is_file() else None,
                _optional(folder / "flags.csv", FLAG_COLUMNS),
                _optional(folder / "ceilings.csv", CEILING_COLUMNS),
            )
        except (ValueError, KeyError, AttributeError) as error:
            if isinstance(error, StateshiftError):
                raise
            raise StateshiftError(f"{folder} holds a damaged or older evaluation ({error}): evaluate again.") from error


def _refuse_no_numbers(table: pd.DataFrame, texts: list[str], file: str) -> None:
    """Raise a ValueError where a column other than `texts` holds other than numbers."""
    numbers = table.drop(columns=texts, errors="ignore") if len(table) else table[[]]
    if strange := [name for name, kind in numbers.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]:
        raise ValueError(f"`{strange[0]}` of {file} holds no numbers")


def _refuse_inconsistent(scores: pd.DataFrame, summary: pd.DataFrame, models: list[str]) -> None:
    """Raise a ValueError where the scores lack what the report needs, or the means are not theirs.

    So it is after an edit by hand, and where two evaluations wrote the files.
    """
    if scores[["context", "perturbation", "model"]].isna().to_numpy().any():
        raise ValueError("a context, perturbation or model of scores.csv is blank")
    if strange := set(scores["regime"]) - {*REGIMES, ""}:
        raise ValueError(f"scores.csv names the regime {strange.pop()}")
    if not np.isfinite(scores[["n_predicted", "n_true"]]).all(axis=None):
        raise ValueError("scores.csv doesn't count the cells of every pair")
    if absent := [model for model in models if model not in set(scores["model"])]:
        raise ValueError(f"scores.csv has no rows of the model {absent[0]}")
    means = scores.melt(["context", "model"], list(METRICS), "metric")
    parts = [means.assign(context=ALL), *([means] if means["context"].nunique() > 1 else [])]
    due = pd.concat(parts).groupby(["context", "model", "metric"])["value"].mean()
    told = summary.set_index(["context", "model", "metric"])["mean"]
    if (
        not told.index.is_unique
        or set(told.index) != set(due.index)
        or not np.allclose(told[due.index], due, equal_nan=True)
    ):
        raise ValueError("summary.csv does not hold the means of scores.csv")


def _is_like(content: Any, kind: Any) -> bool:
    """Whether what JSON held is of a kind, as `ABOUT` writes it.

    Examples
    --------
    >>> _is_like({"level": 0.9, "by": [{"pairs": 3}]}, {"level": float, "by": [{"pairs": int}]})
    True
    >>> _is_like({"by": []}, {"level": float}), _is_like([3, "x"], [int])
    (False, False)
    """
    if isinstance(kind, list):
        return isinstance(content, list) and all(_is_like(part, kind[0]) for part in content)
    if isinstance(kind, dict):
        names = content if "*" in kind and isinstance(content, dict) else kind
        return isinstance(content, dict) and all(
            name in content and _is_like(content[name], kind.get(name, kind.get("*"))) for name in names
        )
    return type(content) is kind or (kind is float and type(content) is int)


def _optional(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table, without rows where an earlier version wrote the folder."""
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    words = {"name", "kind", "model", "context", "perturbation", "meaning", "metric", "floor_name"} & set(columns)
    empty = {column: [""] for column in columns if column not in words}
    table = pd.read_csv(path, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=empty)[columns]
    _refuse_no_numbers(table, [*words], path.name)
    if "floor_name" in table and not set(table["metric"]) <= set(METRICS):
        raise ValueError(f"{path.name} names other metrics than {', '.join(METRICS)}")
    return table
