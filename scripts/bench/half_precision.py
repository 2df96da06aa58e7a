"""What training in bf16 costs in loss: the same training in fp32 and bf16 on simulated cells of 2,000 genes.

    python scripts/bench/half_precision.py FOLDER [OVERRIDE ...]
FOLDER holds the simulated file and the features of `cell_sets.py`, or gets them. OVERRIDES are those of
`stateshift train`, as model=state_sm model.hidden=336; the data, their order and the first weights are the same.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Annotated

import typer
from cell_sets import _files
from transition_training import _with_validation

GENES = 2_000


def main(
    folder: Annotated[Path, typer.Argument(help="Of the simulated file and of the runs.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Of the config.")] = None,
    steps: Annotated[int, typer.Option(help="Of each training.")] = 500,
    cells: Annotated[int, typer.Option(help="Simulated cells.")] = 20_000,
    every: Annotated[int, typer.Option(help="Steps between rows.")] = 100,
) -> None:
    """Print a Markdown table."""
    from stateshift.training import train

    folder.mkdir(parents=True, exist_ok=True)
    toml = _with_validation(_files(folder, cells, GENES))
    rows = {}
    for precision in ("32-true", "bf16-mixed"):
        shutil.rmtree(folder / "runs" / precision, ignore_errors=True)
        given = [f"training.max_steps={steps}", f"training.val_every={every}", f"training.precision={precision}"]
        run = train(
            toml, [*(overrides or []), *given], pert_features=toml.with_name(f"genes_{GENES}.features.pt"),
            output_dir=folder / "runs", name=precision,
        )  # fmt: skip
        with open(run / "metrics.csv", newline="") as handle:
            rows[precision] = list(csv.DictReader(handle))
    print(f"| step | training loss of {every} steps, fp32 | bf16 ÷ fp32 | validation loss, fp32 | bf16 ÷ fp32 |")
    print("|---|---|---|---|---|")
    for full, half in zip(*rows.values(), strict=True):
        cells_of_row = [full["step"]]
        for name in ("train_loss", "val_loss"):
            known = full.get(name) and half.get(name)
            cells_of_row += (
                [f"{float(full[name]):.4f}", f"{float(half[name]) / float(full[name]):.4f}"] if known else ["", ""]
            )
        print(f"| {' | '.join(cells_of_row)} |")


if __name__ == "__main__":
    typer.run(main)
