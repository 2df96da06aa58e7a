"""Each cell type of a screen held out in turn: the transition model beside the additive baseline.

Kang's PBMC (ctrl / stim, five cell types):
    python scripts/bench/unseen_cell_types.py kang_ifnb.h5ad --perturbation group_id --cell-type cluster_id --control ctrl
Each cell type is a zero-shot test split of its own run; nothing is chosen on it. Figures are Pearson correlations
of predicted and measured mean effects over all genes, against the measured cells' own controls.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def main(
    data: Annotated[Path, typer.Argument(help="An h5ad file.")],
    perturbation: Annotated[str, typer.Option(help="The obs column of the perturbation.")],
    cell_type: Annotated[str, typer.Option(help="The obs column of the cell type.")],
    control: Annotated[str, typer.Option(help="The control's name.")],
    seeds: Annotated[int, typer.Option(help="Runs a cell type, for the spread.")] = 3,
    override: Annotated[list[str] | None, typer.Option(help="A Hydra override, as training.max_steps=500.")] = None,
) -> None:
    """Print one Markdown table."""
    import pandas as pd

    from stateshift.cells import read_cells
    from stateshift.evaluation import evaluate
    from stateshift.prediction import predict
    from stateshift.training import train

    columns = {"perturbation": perturbation, "cell_type": cell_type, "control": control}
    cells = read_cells(data, columns)
    perturbed = sorted(set(cells.obs["perturbation"]) - {control})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for held_out in sorted(cells.obs["context"].unique()):
            for seed in range(seeds):
                place = Path(folder) / f"{len(rows)}"
                place.mkdir()
                experiment = place / "experiment.toml"
                experiment.write_text(
                    f'[datasets]\nscreen = "{data.resolve()}"\n[training]\nscreen = "train"\n'
                    f'[zeroshot]\n"screen.{held_out}" = "test"\n[features]\nsource = "onehot"\n[columns]\n'
                    + "".join(f'{key} = "{value}"\n' for key, value in columns.items())
                )
                start = time.perf_counter()
                run = train(experiment, [f"seed={seed}", *(override or [])], output_dir=place, name="run")
                seconds = time.perf_counter() - start
                predicted = place / "predicted.h5ad"
                predict(run, cells=data, perturb=perturbed, contexts=[held_out], output=predicted, seed=seed)
                scores = evaluate(predicted, data, perturbation=perturbation, context=cell_type, control=control).scores
                by_model = scores.groupby("model")["pearson_delta"].mean()
                model = next(name for name in by_model.index if name.startswith("state"))
                rows.append(
                    {
                        "held out": held_out,
                        "seed": seed,
                        "model": by_model[model],
                        "additive": by_model["additive"],
                        "training s": seconds,
                    }
                )
    table = pd.DataFrame(rows)
    summary = table.groupby("held out").agg(
        additive=("additive", "mean"),
        model=("model", "mean"),
        least=("model", "min"),
        most=("model", "max"),
        seconds=("training s", "mean"),
    )
    summary.insert(4, "model − additive", summary["model"] - summary["additive"])
    typer.echo("| held out | " + " | ".join(summary.columns) + " |\n|---" * 1 + "|---" * len(summary.columns) + "|")
    for name, row in summary.iterrows():
        typer.echo(
            f"| {name} | " + " | ".join(f"{v:.3f}" if k != "seconds" else f"{v:.0f}" for k, v in row.items()) + " |"
        )


if __name__ == "__main__":
    typer.run(main)
