"""A small second screen: training from scratch beside fine-tuning from a first one, at equal steps.

    python scripts/bench/fine_tuning.py FOLDER
One simulated experiment is cut in two. The first screen: three contexts, all targets, nine tenths of the genes. The
second: a fourth context with few cells, another nine tenths of the genes in another order; a third of its targets
train, two thirds tell how good a model is. Pearson delta and energy distance of those, by step, in the mean of seeds;
nothing is chosen on them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

SHAPE = ["model.hidden=128", "model.set_size=32", "training.lr=3e-4", "data.batch_size=8"]
WAYS = {
    "from scratch": (False, []),
    "fine-tuned": (True, []),
    "fine-tuned, transformer frozen": (True, ["training.freeze=[transformer_backbone]"]),
    "fine-tuned by LoRA, rank 8": (True, ["training.lora.rank=8"]),
}


def main(
    folder: Annotated[Path, typer.Argument(help="Of the simulated files and of the runs; made anew.")],
    start: Annotated[str, typer.Option(help="model.start of all runs: effect or none.")] = "effect",
    first_steps: Annotated[int, typer.Option(help="Of the first screen's training.")] = 1000,
    steps: Annotated[int, typer.Option(help="Of the second's.")] = 400,
    every: Annotated[int, typer.Option(help="Steps between rows of the table.")] = 100,
    cells: Annotated[int, typer.Option(help="Of the second screen, a tenth of them controls.")] = 600,
    seeds: Annotated[int, typer.Option(help="Runs a way; the simulation is another each time.")] = 3,
) -> None:
    """Print one Markdown table."""
    import numpy as np

    from stateshift.training import train

    found = {name: [] for name in WAYS}
    for seed in range(seeds):
        place = folder / f"{start}_{seed}"
        place.mkdir(parents=True)
        first, second, table = _screens(place, cells, seed)
        given = {"pert_features": table, "output_dir": place / "runs"}
        words = [*SHAPE, f"model.start={start}", f"seed={seed}", "training.accelerator=cpu"]
        long = [f"training.max_steps={first_steps}", f"training.val_every={first_steps // 4}"]
        source = train(first, [*words, *long, "training.select_by=val_loss"], name="first", **given)
        for i, (name, (tuned, more)) in enumerate(WAYS.items()):
            short = [f"training.max_steps={steps}", f"training.val_every={every}", *more]
            run = train(second, [*words, *short], init_from=source if tuned else None, name=f"second_{i}", **given)
            with open(run / "metrics.csv") as handle:
                found[name].append(
                    [[float(row[k]) for k in ("val_pearson_delta", "val_loss")] for row in csv.DictReader(handle)]
                )
    at = range(0, steps + 1, every)
    for k, measure in enumerate(("Pearson delta", "energy distance")):
        print(f"\n| {measure} at step | {' | '.join(map(str, at))} |\n|---|{'---|' * len(at)}")
        for name, runs in found.items():
            values = np.array(runs)[:, :, k]
            print(f"| {name} | {' | '.join(f'{m:.3f} ± {s:.3f}' for m, s in zip(values.mean(0), values.std(0)))} |")


def _screens(place: Path, cells: int, seed: int) -> tuple[Path, Path, Path]:
    """Experiments of the first and the second screen, and the features of both."""
    import anndata as ad
    import numpy as np

    from stateshift.cells.simulate import simulate_experiment

    simulate_experiment(place / "sim.h5ad", contexts=4, targets=48, cells=24_000, genes=600, batches=2, seed=seed)
    whole, rng = ad.read_h5ad(place / "sim.h5ad"), np.random.default_rng(seed)
    contexts, targets = (
        sorted(whole.obs["cell_type"].unique()),
        sorted(set(whole.obs["target_gene"]) - {"non-targeting"}),
    )
    genes = [g for g in whole.var_names if g not in set(targets)]
    tenth, order = len(genes) // 10, rng.permutation(whole.var_names)
    in_first = ~whole.var_names.isin(genes[:tenth])
    in_second = [g for g in order if g not in set(genes[-tenth:])]
    fourth = np.flatnonzero(whole.obs["cell_type"] == contexts[3])
    whole[whole.obs["cell_type"] != contexts[3], in_first].write_h5ad(place / "first.h5ad")
    small = whole[rng.choice(fourth, cells, replace=False), in_second].copy()
    small.write_h5ad(place / "second.h5ad")
    targets = sorted(set(small.obs["target_gene"]) - {"non-targeting"})
    held = [str(t) for t in rng.permutation(targets)[: 2 * len(targets) // 3]]
    for name, split in (("first", ""), ("second", f'[fewshot."second.{contexts[3]}"]\nval = {held}\n')):
        (place / f"{name}.toml").write_text(
            f'[datasets]\n{name} = "{(place / name).resolve()}.h5ad"\n[training]\n{name} = "train"\n{split}'
        )
    return place / "first.toml", place / "second.toml", place / "sim.features.pt"


if __name__ == "__main__":
    typer.run(main)
