"""Time and memory of fitting effects at full size: 2,000 targets × 18,080 genes × 512 features, all measured.

    python scripts/bench/effect_fit.py                 # the stack: inner folds and all
    python scripts/bench/effect_fit.py --model ridge --targets 500
    python scripts/bench/effect_fit.py --model backbone                 # the stack on pseudobulk effects, forest and all
    python scripts/bench/effect_fit.py --model backbone --contexts 4 --targets 500

The table is drawn: a linear map of rank 20 from the features, and noise.
"""

from __future__ import annotations

import resource
import time
from typing import Annotated

import typer


def main(
    model: Annotated[
        str, typer.Option(help="Members of a table's stack, parted by commas; or backbone.")
    ] = "knn,ridge,strength",
    targets: Annotated[int, typer.Option()] = 2000,
    genes: Annotated[int, typer.Option()] = 18_080,
    features: Annotated[int, typer.Option()] = 512,
    contexts: Annotated[int, typer.Option()] = 1,
) -> None:
    """Print seconds, those of a core's work where others keep the machine busy, and gigabytes."""
    import numpy as np

    from stateshift.cells import EffectTable
    from stateshift.effects import fit_stack as fit_backbone
    from stateshift.effects.calls.stack import fit_stack
    from stateshift.feature_table import FeatureTable

    rng = np.random.default_rng(0)
    names = [f"T{i}" for i in range(targets)]
    vectors = rng.standard_normal((targets, features), dtype=np.float32)
    effects = vectors @ rng.standard_normal((features, 20), dtype=np.float32) / features**0.5
    effects = effects @ rng.standard_normal((20, genes), dtype=np.float32)
    effects = np.concatenate([effects + rng.standard_normal(effects.shape, dtype=np.float32) for _ in range(contexts)])
    places = np.repeat([f"c{i}" for i in range(contexts)], targets).tolist()
    train = EffectTable([f"G{j}" for j in range(genes)], names * contexts, places, effects, None, {})
    table = FeatureTable(names, vectors, {})
    start, began = time.perf_counter(), time.process_time()
    if model == "backbone":
        fit_backbone(train, table)
    else:
        fit_stack(train, table, None, model.split(","), False, "T")
    seconds = time.perf_counter() - start
    busy = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = f"{targets:,} targets × {contexts} contexts × {genes:,} genes × {features} features"
    print(f"{model}: {size} in {seconds:.0f} s ({busy:.0f} s of one core), {peak:.1f} GB")


if __name__ == "__main__":
    typer.run(main)
