"""The anchored network beside its backbone, ridge, nearest neighbours and the network alone, on a simulated screen.

A first look, in minutes on two cores:
    python scripts/bench/anchored.py out --targets 80 --cells 16000 --genes 300 --networks state_tiny training.max_steps=400
As in docs/anchored.md:
    python scripts/bench/anchored.py out
Features tell 40 % of the variance of what targets do. Test pairs are new targets (T), all targets in a context without
perturbed cells (C), and both (J); what is printed of each: mean Pearson delta, the anchored network's difference with a
95 % interval of the paired bootstrap over targets, and that difference as a share of the gap to the ceiling of random
halves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stateshift.cli.main import call

if TYPE_CHECKING:
    import pandas as pd

ANCHORED = "anchored"


def main(
    output: Annotated[Path, typer.Argument(help="The folder of cells, runs and tables; a comparison in it goes on.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides of the networks.")] = None,
    targets: Annotated[int, typer.Option(help="Perturbed genes.")] = 500,
    contexts: Annotated[int, typer.Option(help="Cell types, the last held out.")] = 3,
    cells: Annotated[int, typer.Option(help="Cells in all.")] = 200_000,
    genes: Annotated[int, typer.Option(help="Genes measured.")] = 2_000,
    share: Annotated[float, typer.Option(help="Of what targets do, that features tell.")] = 0.4,
    networks: Annotated[str, typer.Option(help="Other networks.")] = "state_sm",
    seeds: Annotated[str, typer.Option(help="Of networks and inner folds.")] = "0",
) -> None:
    """Print a Markdown table, and where the network was kept."""
    import pandas as pd

    from stateshift.cells.simulate import simulate_experiment
    from stateshift.evaluation import compare

    output.mkdir(parents=True, exist_ok=True)
    toml = output / "sim.toml"
    if not toml.is_file():
        simulate_experiment(
            output / "sim.h5ad", contexts=contexts, targets=targets, cells=cells, genes=genes, feature_share=share
        )
    models = f"{ANCHORED},{networks},stack"
    found = compare(toml, overrides or [], models=models, seeds=seeds, output=output / "comparison")
    print_table(found.rows, pd.read_csv(found.folder / "scores.csv"))
    for record in sorted(found.folder.rglob("anchored.json")):
        typer.echo(f"\n{record.relative_to(output)}:\n{record.read_text()}")
    typer.echo("\n".join(found.notes))


def print_table(rows: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Every model beside the anchored one, regime by regime."""
    from stateshift.metrics import paired_bootstrap

    key = ["fold", "context", "perturbation"]
    typer.echo(
        "| regime | pairs | model | Pearson delta | anchored − model | share of the gap |\n|---|---|---|---|---|---|"
    )
    for regime, of_regime in rows.groupby("regime", sort=False):
        part = scores if regime == "all" else scores[scores["regime"] == regime]
        wide = part.pivot_table(index=key, columns="model", values="pearson_delta")
        floor = wide["context_mean"].mean()
        best = of_regime[of_regime["model"] == "stack"].iloc[0]
        ceiling = floor + (best["pearson_delta"] - floor) / best["gap_closed"]
        for name in wide.mean().sort_values(ascending=False).index:
            line = f"| {regime} | {len(wide)} | {name} | {wide[name].mean():.3f} |"
            if name == ANCHORED:
                typer.echo(f"{line} – | – |")
                continue
            gain = paired_bootstrap(wide[ANCHORED], wide[name], wide.index.get_level_values("perturbation"))
            of_gap = gain.mean / (ceiling - wide[name].mean())
            typer.echo(f"{line} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] | {of_gap:.0%} |")
        typer.echo(f"| {regime} | {len(wide)} | ceiling of random halves | {ceiling:.3f} | | |")


if __name__ == "__main__":
    call(lambda: typer.run(main))
