"""The report's last part: what its words and scales mean, of those that it uses."""

from __future__ import annotations

from stateshift.cells import REGIMES
from stateshift.evaluation.ceilings import TIERS
from stateshift.evaluation.report import page
from stateshift.evaluation.report.detail.detail import FDR
from stateshift.evaluation.report.sources import Source

ALWAYS = {
    "change, effect": "The mean log1p expression of a gene in perturbed cells minus that in control cells; log1p is ln(1 + normalised "
    "counts). 0: as in controls; 0.69: about twice as much in a well expressed gene; −0.69: about half.",
    "context": "The cell type or cell line.",
    "pair": "One perturbation in one context.",
}
SCORES = {
    "Pearson delta": "The correlation over genes of the predicted and the measured changes of a pair: 1 is perfect, 0 is what a "
    "prediction of no change counts.",
    "MAE, MSE": "The mean absolute, and squared, difference between predicted and measured change over genes, in units of log1p and "
    "of its square: 0 is perfect.",
    "PDS": "Perturbation discrimination: how near the measured changes lie to the prediction, among all perturbations of their context, "
    "the target's own gene left out. 1: the nearest of all; 0.5: as by chance. L1 adds up absolute differences, cosine looks at the "
    "direction alone.",
    "a second experiment": "What a repeat of the measurement with as many cells would score as a prediction: the measured cells in two random "
    "halves, one against the other, brought to full size.",
    "floor, gap closed, harm": "The floor is a simple guess that any model should beat. Gap closed: the share of the way from there to a second "
    "experiment. Harm: the share of pairs on which the floor is better (in a comparison: the best baseline).",
    "strong, medium, weak": "How well the measured changes of a pair repeat between two halves of its cells: the share of their variance that "
    f"is signal is {TIERS['strong']} or more, {TIERS['medium']} or more, or less.",
}  # fmt: skip
INTERVALS = {
    "interval, half-width": "The range that is to hold the true change of a gene, and half its length in units of log1p; inside, covered: the "
    "share of true changes that do lie in it.",
}  # fmt: skip
PAIRS = {
    "FDR, responding": f"False discovery rate of the rank-sum test of a gene's cells against controls; below {FDR} the gene responds.",
    "nearest trained": "The perturbation of the training whose features are most alike; its distance is 0 for itself and about 1.4 between unrelated "
    "ones.",
}  # fmt: skip
ROUTES = {
    "measured": "The pair's own measurement in training, shrunk.",
    "transfer": "The perturbation's effect in other contexts.",
    "features": "Effects of other perturbations, by features.",
    "neural": "The network.",
    "fallback": "The mean effect in training, for want of anything that knows the perturbation.",
}
MODELS = {
    "control": "No change at all.",
    "mean": "The mean effect of all training perturbations.",
    "context_mean": "The mean effect of the training perturbations of the context.",
    "additive": "What is common to the context plus what is common to the perturbation.",
    "ridge": "Linear regression of effects on features.",
    "knn": "The effects of the perturbations with the nearest features.",
    "transfer": "The perturbation's effect in other contexts, brought to this one.",
}


def words_section(found: Source) -> list[str]:
    """HTML of the words of a page; nothing where it holds neither scores nor pairs."""
    if not (found.evaluations or found.comparisons or found.detail is not None):
        return []
    rows = list(ALWAYS.items())
    if found.evaluations or found.comparisons:
        rows += SCORES.items()
    if found.detail is not None and found.detail.measured is not None:
        rows += PAIRS.items()
    if any("intervals" in e.about for e in found.evaluations.values()) or _intervals(found):
        rows += INTERVALS.items()
    regimes, routes, models = (_used(found, name) for name in ("regime", "route", "model"))
    rows += [(f"regime {name}", f"{said[0].upper()}{said[1:]}.") for name, said in REGIMES.items() if name in regimes]
    rows += [(f"route {name}", said) for name, said in ROUTES.items() if name in routes]
    rows += [(f"model {name}", said) for name, said in MODELS.items() if name in models]
    return [page.heading("What the words mean", anchor="words"), page.table(("word", "meaning"), rows, words=True)]


def _intervals(found: Source) -> bool:
    return found.detail is not None and found.detail.half_widths is not None


def _used(found: Source, column: str) -> set[str]:
    """The regimes, routes or models that the page names; all regimes and models with a comparison."""
    tables = [evaluation.scores for evaluation in found.evaluations.values()]
    tables += [] if found.detail is None else [found.detail.rows]
    used = {
        str(name).removesuffix(" (baseline)") for table in tables if column in table for name in table[column].unique()
    }
    return used | (set(REGIMES) | set(MODELS) if found.comparisons and column != "route" else set())
