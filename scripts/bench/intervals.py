r"""Coverage and width of the 90 % intervals: a simulated screen in every regime, and a real screen's cell types in turn.

The simulated screen:                python scripts/bench/intervals.py screen --targets 100 --seeds 3
Contexts with effects of their own:  python scripts/bench/intervals.py contexts --seeds 5
Kang's PBMC (ctrl / stim, one-hot):  python scripts/bench/intervals.py cell-types kang_ifnb.h5ad \
    --perturbation group_id --cell-type cluster_id --control ctrl
Rows are held out of the effects, and an effect model fitted on the others predicts them with its intervals, as
`stateshift predict` does; a share inside counts (pair, gene) effects as measured. The last column is the width
beside the mean baseline's own intervals.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
HEADER = "| held out | regime | model | pairs | covered | half-width | mean covers | mean's half-width | narrower |"


@app.command()
def screen(
    targets: Annotated[int, typer.Option(help="Perturbed genes, of which a quarter is held out.")] = 100,
    cells: Annotated[int, typer.Option(help="Cells in all four contexts.")] = 60_000,
    genes: Annotated[int, typer.Option(help="Genes measured.")] = 500,
    feature_share: Annotated[float, typer.Option(help="Share of the effects that the features tell.")] = 1.0,
    seeds: Annotated[int, typer.Option(help="Simulations, each with its own held-out genes.")] = 3,
    models: Annotated[str, typer.Option(help="Effect models.")] = "ridge,stack",
) -> None:
    """A quarter of the genes (T), the fourth context (C), and both (J) of simulated screens."""
    import numpy as np

    from stateshift.cells import estimate_effects, read_cells
    from stateshift.cells.simulate import simulate_experiment
    from stateshift.feature_table import FeatureTable

    found: dict[tuple[str, str], list] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            file = Path(folder) / f"{seed}.h5ad"
            simulate_experiment(
                file, contexts=4, targets=targets, cells=cells, genes=genes, batches=2, feature_share=feature_share,
                seed=seed,
            )  # fmt: skip
            measured = read_cells(file, {})
            table = estimate_effects(measured, ~measured.is_control)
            features = FeatureTable.load(file.with_suffix(".features.pt"))
            names = sorted(set(table.perturbations))
            new = set(np.random.default_rng(seed).permutation(names)[: targets // 4])
            context = max(table.contexts)
            held = np.array([p in new or c == context for p, c in zip(table.perturbations, table.contexts)])
            for model in models.split(","):
                for regime, row in measure(table, features, held, model, seed).items():
                    found.setdefault((regime, model), []).append(row)
    print_table({("a quarter of the genes, a context", *key): rows for key, rows in sorted(found.items())})


@app.command()
def contexts(
    targets: Annotated[int, typer.Option(help="Perturbed genes.")] = 30,
    genes: Annotated[int, typer.Option(help="Genes measured.")] = 100,
    seeds: Annotated[int, typer.Option(help="Simulations.")] = 5,
    models: Annotated[str, typer.Option(help="Effect models.")] = "transfer,stack",
) -> None:
    """A sixth context that moves all effects its own way: told of by the training files or `predict --cells`, or not.

    It isn't told to the backbone of an anchored run where only the prediction's cells bring it.
    """
    import numpy as np

    from stateshift.cells import EffectTable
    from stateshift.feature_table import FeatureTable

    found: dict[tuple[str, str, str], list] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        names = [f"T{i}" for i in range(targets)]
        features = FeatureTable(names, rng.standard_normal((targets, 4)).astype(np.float32))
        sizes = {(targets, 1, genes): 0.5, (1, 6, genes): 0.5, (targets, 6, genes): 0.15}
        effects = sum(size * rng.standard_normal(shape) for shape, size in sizes.items()).reshape(-1, genes)
        effects = (effects + 0.05 * rng.standard_normal(effects.shape)).astype(np.float32)
        rows = [(p, c) for p in names for c in "abcdef"]
        controls = {c: (5 + rng.standard_normal(genes)).astype(np.float32) for c in "abcdef"}
        for told, known in (("told of", "abcdef"), ("not told of", "abcde")):
            table = EffectTable(
                [f"g{i}" for i in range(genes)], [p for p, _ in rows], [c for _, c in rows], effects,
                np.full(len(rows), 100), {c: controls[c] for c in known}, np.full(effects.shape, 0.05, np.float32),
            )  # fmt: skip
            held = np.array([c == "f" for _, c in rows])
            for model in models.split(","):
                row = measure(table, features, held, model, seed)["C"]
                found.setdefault((f"a context {told}", "C", model), []).append(row)
    print_table(found)


@app.command("cell-types")
def cell_types(
    data: Annotated[Path, typer.Argument(help="An h5ad file.")],
    perturbation: Annotated[str, typer.Option(help="The obs column of the perturbation.")],
    cell_type: Annotated[str, typer.Option(help="The obs column of the cell type.")],
    control: Annotated[str, typer.Option(help="The control's name.")],
    model: Annotated[str, typer.Option(help="An effect model.")] = "additive",
) -> None:
    """Each cell type held out of the effects in turn, one-hot features."""
    import numpy as np

    from stateshift.cells import estimate_effects, read_cells
    from stateshift.feature_table import FeatureTable

    cells = read_cells(data, {"perturbation": perturbation, "cell_type": cell_type, "control": control})
    table = estimate_effects(cells, ~cells.is_control)
    names = sorted(set(table.perturbations))
    features = FeatureTable(names, np.eye(len(names), dtype=np.float32), {"source": "onehot"})
    found = {}
    for context in sorted(set(table.contexts)):
        held = np.array([c == context for c in table.contexts])
        for regime, row in measure(table, features, held, model, 0).items():
            found[context, regime, model] = [row]
    found["mean of all", "C", model] = [row for rows in found.values() for row in rows]
    print_table(found)


def measure(table, features, held, model: str, seed: int) -> dict[str, tuple[float, ...]]:
    """Regime → pairs, coverage and width of a model's intervals, and of the mean's, on rows that are held out."""
    import numpy as np

    from stateshift.effects import fit_effect_models
    from stateshift.prediction.asked.support import find_support
    from stateshift.prediction.intervals.calibrator import Calibrator
    from stateshift.prediction.intervals.half_widths import find_intervals

    train, test = table.rows(~held), table.rows(held)
    models = fit_effect_models(train, features, ["mean", model], seed=seed)
    pairs = list(zip(test.contexts, test.perturbations))
    support = find_support(pairs, train, features, set())
    routes = models[model].routes(test.perturbations, test.contexts)
    found = find_intervals(Calibrator(models, train, features, seed), model, pairs, routes, support)
    missed = {n: np.abs(models[n].predict(test.perturbations, test.contexts) - test.effects) for n in ("mean", model)}
    rows = {}
    for regime in sorted(set(support.regimes)):
        of = [i for i, r in enumerate(support.regimes) if r == regime]
        own, mean = found.half_widths[of], found.of_mean[of]
        rows[regime] = (
            len(of), (missed[model][of] <= own).mean(), own.mean(), (missed["mean"][of] <= mean).mean(), mean.mean(),
        )  # fmt: skip
    return rows


def print_table(found: dict[tuple[str, str, str], list[tuple[float, ...]]]) -> None:
    """Means over simulations as Markdown, coverage with its range."""
    import numpy as np

    typer.echo(HEADER + "\n" + "|---" * 9 + "|")
    for key, rows in found.items():
        pairs, covered, width, mean_covered, mean_width = np.array(rows).T
        span = f" ({covered.min():.3f}–{covered.max():.3f})" if len(rows) > 1 else ""
        typer.echo(
            f"| {' | '.join(key)} | {pairs.sum():.0f} | {covered.mean():.3f}{span} | {width.mean():.3f} | "
            f"{mean_covered.mean():.3f} | {mean_width.mean():.3f} | {1 - width.mean() / mean_width.mean():+.0%} |"
        )


if __name__ == "__main__":
    app()
