"""What is put beside a prediction on demand: a second prediction, and the means of measured training effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stateshift.cells import Cells, EffectTable, read_effects
from stateshift.cells.matrix.expression import Expression
from stateshift.effects import fit_effect_models
from stateshift.errors import StateshiftError, some
from stateshift.evaluation.pairing import Prediction, named_as, read_prediction
from stateshift.genes.doubles import as_spelt
from stateshift.prediction.effect_models import lowest_effects

if TYPE_CHECKING:
    from anndata import AnnData

OF_TRAINING = ("control", "mean", "context_mean")
"""Baselines that training effects alone are enough for."""


def read_second(
    source: Path | str | AnnData, declared: Mapping[str, str | None], truth: Cells, first: Prediction
) -> Prediction:
    """Another prediction on the genes of the first, its doubles under the truth's names, and a name of its own.

    Raises
    ------
    StateshiftError
        Its genes are others, or it is no prediction that `read_prediction` takes.
    """
    second = read_prediction(source, declared, truth)
    genes, own = first.cells.genes, second.cells.genes
    lacking, more = sorted(set(genes) - set(own)), sorted(set(own) - set(genes))
    if lacking or more:
        told = [f"lacks {some(lacking, 4)}"] * bool(lacking) + [f"has {some(more, 4)} besides"] * bool(more)
        raise StateshiftError(
            f"--against: the second prediction {' and '.join(told)}: cut both to the same genes, adata[:, genes]."
        )
    if own != genes:
        place = {gene: i for i, gene in enumerate(own)}
        order = [place[gene] for gene in genes]
        X = second.cells.X.csr()[:, order]
        baselines = {model: {pair: e[order] for pair, e in of.items()} for model, of in second.baselines.items()}
        second = replace(second, cells=replace(second.cells, X=Expression([X]), genes=list(genes)), baselines=baselines)
    name = second.model
    if name == first.model:
        stem = Path(source).stem if isinstance(source, str | Path) else ""
        name = stem if stem and stem != first.model else f"{name} (second)"
    return named_as(replace(second, model=name), truth)


def with_baselines_of(second: Prediction, prediction: Prediction) -> tuple[Prediction, list[str]]:
    """A prediction that has no baselines with those of the second one's training, and what is to be said of them."""
    if prediction.baselines or not second.baselines:
        return prediction, []
    told = f"The baselines are those that {second.model} holds of its own training; {prediction.model} holds none."
    return replace(prediction, baselines=second.baselines), [told]


def with_training(prediction: Prediction, path: Path | str, truth: Cells) -> tuple[Prediction, list[str]]:
    """A prediction with the baselines that measured training effects give, and what is to be said of them.

    As cells can show them: never below no expression, as the baselines of a run are.

    Parameters
    ----------
    prediction
        Without baselines of its own.
    path
        Effects (``stateshift effects estimate``) on the prediction's scale and at least its genes.

    Raises
    ------
    StateshiftError
        The prediction holds baselines; genes are absent or unmeasured; the scales differ.
    """
    if prediction.baselines:
        raise StateshiftError("The prediction holds the baselines of its own training: leave --training out.")
    train = _on_genes(read_effects(path), prediction, path)
    truths = truth.obs["perturbation"].unique()
    known = set(zip(train.contexts, as_spelt(train.perturbations, truths)))
    obs = prediction.cells.obs[~prediction.cells.is_control]
    with_controls = set(truth.obs["context"][truth.is_control])
    pairs = sorted({(c, p) for c, p in zip(obs["context"], obs["perturbation"]) if c in with_controls})
    perturbations, contexts = [p for _, p in pairs], [c for c, _ in pairs]
    models = fit_effect_models(train, None, OF_TRAINING)
    least = lowest_effects(pairs, truth) if pairs else 0.0
    effects = {name: np.maximum(model.predict(perturbations, contexts), least) for name, model in models.items()}
    baselines = {name: dict(zip(pairs, of)) for name, of in effects.items()}
    leaked = [f"{p} in {c}" for c, p in pairs if (c, p) in known]
    notes = []
    if leaked:
        notes.append(
            f"{Path(path).name} holds {len(leaked)} pairs that are scored, which its means know: {some(leaked, 4)}. "
            "stateshift effects estimate EXPERIMENT.toml --split train leaves them out."
        )
    return replace(prediction, baselines=baselines), notes


def _on_genes(train: EffectTable, prediction: Prediction, path: Path | str) -> EffectTable:
    genes, place = prediction.cells.genes, {gene: i for i, gene in enumerate(train.genes)}
    lacking = [gene for gene in genes if gene not in place]
    if lacking:
        raise StateshiftError(
            f"{path} lacks {len(lacking):,} of the {len(genes):,} predicted genes: {some(lacking, 4)}."
        )
    if train.scale != prediction.cells.scale:
        raise StateshiftError(
            f"{path} is on the scale {train.scale}, and the prediction on {prediction.cells.scale}: estimate both alike."
        )
    order = [place[gene] for gene in genes]
    if not np.isfinite(train.effects[:, order]).all():
        raise StateshiftError(f"{path} holds effects that were not measured: means of training need every gene.")
    means = {context: of[order] for context, of in train.control_means.items()}
    return EffectTable(
        list(genes),
        train.perturbations,
        train.contexts,
        train.effects[:, order],
        train.n_cells,
        means,
        scale=train.scale,
    )
