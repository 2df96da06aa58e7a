"""Doubles against the sum of their targets: simulated ones with known interactions, and Norman's complete ones.

    python scripts/bench/doubles.py FOLDER
    python scripts/bench/doubles.py FOLDER --norman norman_mcfaline.h5ad

Simulated: two contexts, 60 targets, 400 doubles whose interaction buffers both targets and depends on the features of
both (`stateshift.cells.simulate.population.with_doubles`). The experiment that the simulator writes holds out the
second context, targets with their doubles, and doubles of trained targets. Everything is learned from effects of the
training cells; truth are the held-out cells' effects against the same controls. Norman: each K562 double whose
targets were both perturbed alone is left out in turn; everything else trains. Intervals resample doubles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stateshift.cells import EffectTable, estimate_effects, read_all, read_cells
from stateshift.effects import fit_stack
from stateshift.effects.doubles import Doubles, fit_doubles
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.metrics import mse, paired_bootstrap, pearson_delta


def main(
    folder: Annotated[Path, typer.Argument(help="A folder for the simulated cells.")],
    norman: Annotated[Path | None, typer.Option(help="The AnnData of Norman's screen: it is measured alone.")] = None,
    doubles: Annotated[int, typer.Option(help="Simulated.")] = 400,
    cells: Annotated[int, typer.Option(help="Simulated.")] = 60_000,
    genes: Annotated[int, typer.Option(help="Simulated.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
) -> None:
    """Print Markdown tables."""
    if norman is not None:
        complete(norman)
        return
    from stateshift.cells.simulate import simulate_experiment

    toml = folder / f"doubles_{doubles}_{cells}_{genes}_{seed}.toml"
    if not toml.is_file():
        simulate_experiment(
            toml.with_suffix(".h5ad"), contexts=2, targets=60, doubles=doubles, cells=cells, genes=genes, batches=2,
            depth=30_000, seed=seed,
        )  # fmt: skip
    _, population, split = read_all(toml)
    train, test = (estimate_effects(population, split == name) for name in ("train", "test"))
    features = FeatureTable.load(toml.with_suffix(".features.pt"))
    trained_contexts, alone = set(train.contexts), {p for p in train.perturbations if "+" not in p}
    learned = fit_doubles(train, features, fit_stack(train, features))
    said = learned.interaction
    print(f"slopes {said.slopes.round(3)}, kernel {'yes' if said.space else 'no'}\n" if said else "no interaction\n")
    print(
        "| held out | doubles | model | Pearson delta | MSE | Pearson delta − sum | MSE − sum |\n|---|---|---|---|---|---|---|"
    )
    kinds = {
        "both targets trained": lambda p, c: c in trained_contexts and set(genes_of(p)) <= alone,
        "a target unseen": lambda p, c: c in trained_contexts and not set(genes_of(p)) <= alone,
        "untreated context": lambda p, c: c not in trained_contexts,
    }
    for name, of in kinds.items():
        held = test.rows([("+" in p) and of(p, c) for p, c in zip(test.perturbations, test.contexts)])
        for line in against_sum(learned, held):
            print(f"| {name} | {len(held)} | {line} |")


def against_sum(learned: Doubles, held: EffectTable) -> list[str]:
    """Rows of the sum alone and of what was learned, paired by double."""
    asked = held.perturbations, held.contexts
    one, other = Doubles(learned.single, None).predict(*asked), learned.predict(*asked)
    lines = []
    for name, found in (("sum of the targets", one), ("with interaction", other)):
        cells = [f"{measure(found, held.effects).mean():.4f}" for measure in (pearson_delta, mse)]
        for measure in (pearson_delta, mse):
            if found is one:
                cells.append("")
                continue
            difference = paired_bootstrap(
                measure(other, held.effects), measure(one, held.effects), np.array(held.perturbations)
            )
            cells.append(f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]")
        lines.append(" | ".join([name, *cells]))
    return lines


def complete(path: Path) -> None:
    """Norman's doubles with both targets measured alone, each left out in turn."""
    cells = read_cells(path, {})
    effects = estimate_effects(cells)
    effects = effects.rows([c == "k562" for c in effects.contexts])
    alone = {p for p in effects.perturbations if "+" not in p}
    asked = [p for p in effects.perturbations if "+" in p and set(genes_of(p)) <= alone]
    print(
        "| left out | slopes | Pearson delta, sum | with interaction | MSE, sum | with interaction |\n|---|---|---|---|---|---|"
    )
    for double in asked:
        left_out = np.array([p == double for p in effects.perturbations])
        train, held = effects.rows(~left_out), effects.rows(left_out)
        usable = train.rows([set(genes_of(p)) <= alone for p in train.perturbations])
        learned = fit_doubles(usable, None, fit_stack(usable, None))
        found = [Doubles(learned.single, None).predict([double], ["k562"]), learned.predict([double], ["k562"])]
        cells_of = [f"{measure(f, held.effects)[0]:.4f}" for measure in (pearson_delta, mse) for f in found]
        slopes = "none" if learned.interaction is None else learned.interaction.slopes.round(2).tolist()
        print(f"| {double} | {slopes} | {' | '.join(cells_of)} |")


if __name__ == "__main__":
    typer.run(main)
