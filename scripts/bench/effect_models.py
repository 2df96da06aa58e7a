"""Effect models beside each other on a simulated screen, by what is new: new context, new target, both.

    python scripts/bench/effect_models.py                         # 500 targets, features tell 40 % of their activity
    python scripts/bench/effect_models.py --noise 512             # 512 columns of noise fused in
    python scripts/bench/effect_models.py --cells norman.h5ad     # real cells: pairs of each context held out in turn

Prints each model's mean Pearson delta over held-out pairs, the difference to it that the stack makes with a paired
bootstrap over targets, and the stack's weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

if TYPE_CHECKING:
    from stateshift.cells import EffectTable
    from stateshift.feature_table import FeatureTable

FOLDS = 5


def main(
    targets: Annotated[int, typer.Option()] = 500,
    contexts: Annotated[int, typer.Option()] = 3,
    cells: Annotated[str, typer.Option(help="An h5ad file, or how many cells to simulate.")] = "60000",
    genes: Annotated[int, typer.Option()] = 1_000,
    feature_share: Annotated[float, typer.Option()] = 0.4,
    noise: Annotated[int, typer.Option(help="Columns of noise that are fused with the features.")] = 0,
    models: Annotated[str, typer.Option()] = "context_mean,additive,transfer,ridge,knn,bilinear,forest,stack",
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Print figures of each regime."""
    from stateshift.cells import regimes_of

    if cells.isdigit():
        effects, features = simulated(targets, contexts, int(cells), genes, feature_share, seed)
    else:
        effects, features = measured(Path(cells))
    if noise:
        features = with_noise(features, noise, seed)
    for regime, held in held_out(effects, seed).items():
        train, test = effects.rows(~held), effects.rows(held)
        found = regimes_of(test.perturbations, test.contexts, zip(train.perturbations, train.contexts))
        told(regime, train, test.rows(np.array(found) == regime), features, models.split(","), seed)


def simulated(
    targets: int, contexts: int, cells: int, genes: int, share: float, seed: int
) -> tuple[EffectTable, FeatureTable]:
    """Effects of simulated cells as estimated from them, and the targets' features."""
    from stateshift.cells import estimate_effects_file
    from stateshift.cells.simulate import simulate_experiment
    from stateshift.feature_table import FeatureTable

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sim.h5ad"
        simulate_experiment(
            path, contexts=contexts, targets=targets, cells=cells, genes=genes, feature_share=share, seed=seed
        )
        table = estimate_effects_file(path, Path(folder) / "effects.h5ad")
        return table, FeatureTable.load(path.with_suffix(".features.pt"))


def measured(path: Path) -> tuple[EffectTable, FeatureTable]:
    """Effects of real cells, and features that tell targets apart and nothing else."""
    from stateshift.cells import estimate_effects_file
    from stateshift.feature_table import FeatureTable, genes_of

    with tempfile.TemporaryDirectory() as folder:
        table = estimate_effects_file(path, Path(folder) / "effects.h5ad")
    names = sorted({gene for p in table.perturbations for gene in genes_of(p)})
    return table, FeatureTable(names, np.eye(len(names)), {"source": "onehot"})


def with_noise(features: FeatureTable, width: int, seed: int) -> FeatureTable:
    """Features beside as many columns of noise, as `fuse_features` has them."""
    from stateshift.feature_table import FeatureTable
    from stateshift.features import fuse_features

    noise = np.random.default_rng(seed).normal(size=(len(features), width))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("features.pt", "noise.pt", "fused.pt")]
        features.save(paths[0])
        FeatureTable(features.genes, noise, {"source": "noise"}).save(paths[1])
        return fuse_features(paths[:2], paths[2])


def held_out(effects: EffectTable, seed: int) -> dict[str, np.ndarray]:
    """Regime → rows that are not trained on: a fifth of the pairs, or of the targets, here in a context that is out."""
    rng = np.random.default_rng(seed)
    names, t = np.unique(np.array(effects.perturbations), return_inverse=True)
    places, c = np.unique(np.array(effects.contexts), return_inverse=True)
    part = rng.permutation(len(names)) % FOLDS
    last = c == len(places) - 1
    return {
        "C": (part[t] + c) % FOLDS == 0,
        "T": part[t] == 0,
        "J": (part[t] == 0) | last,
    }


def told(
    regime: str, train: EffectTable, test: EffectTable, features: FeatureTable, names: list[str], seed: int
) -> None:
    """Fit on the training rows and print each model's figures on the test rows of a regime."""
    from stateshift.effects import fit_effect_models
    from stateshift.metrics import paired_bootstrap, pearson_delta

    if not len(test):
        print(f"{regime}: no pair of it")
        return
    fitted = fit_effect_models(train, features, names, seed)
    scores = {n: pearson_delta(m.predict(test.perturbations, test.contexts), test.effects) for n, m in fitted.items()}
    print(f"{regime}: {len(train)} training rows, {len(test)} test pairs, Pearson delta (stack − model, 95 %)")
    for name, score in scores.items():
        d = paired_bootstrap(np.nan_to_num(scores["stack"]), np.nan_to_num(score), test.perturbations)
        print(f"  {name:13s} {np.nan_to_num(score).mean():.4f}   {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]")
    weights = fitted["stack"].weights[regime]
    print("  weights:", ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items() if weight > 0.005))


if __name__ == "__main__":
    typer.run(main)
