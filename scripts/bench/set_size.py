"""How far a predicted cell depends on its set: on which cells are its companions, and on how many.

The demo's simulated screen, and Kang's PBMC where its file is given:
    python scripts/bench/set_size.py --kang kang_ifnb.h5ad
Each model is trained as a user would train it. Then every control cell of the test pairs is predicted in sets dealt at
random, again and again, at the training size and at others; the population's mean goes into the model as
`stateshift predict` gives it, whole.
- companions: standard deviation of a cell's predicted expression over dealings, as root mean square over cells and
  genes, in parts of the effect (predicted minus control cell, root mean square likewise).
- mean effect: how far the mean effect of all cells is from the training size's, in parts of its length.
- Pearson delta: of the mean effect with the measured one, mean over pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

SIZES = (16, 64, 256)
VARIANTS = {"state_tiny": [], "start: none": ["model.start=none"], "mask_attn": ["model.mask_attn=true"]}


@dataclass
class Trained:
    """A trained run with its measured cells."""

    data: str
    variant: str
    run: Path
    cells: Path
    columns: dict[str, str]


def main(
    kang: Annotated[
        Path | None, typer.Option(help="Kang's h5ad (group_id, cluster_id); absent, it is left out.")
    ] = None,
    held_out: Annotated[str, typer.Option(help="Kang's cell type to predict.")] = "CD14+ Monocytes",
    dealings: Annotated[int, typer.Option(help="Random dealings into sets.")] = 16,
    pairs: Annotated[int, typer.Option(help="Test pairs a context, at most.")] = 8,
    override: Annotated[list[str] | None, typer.Option(help="A Hydra override, as training.max_steps=500.")] = None,
) -> None:
    """Print one Markdown table."""
    names = ("data", "model", "set", "companions", "mean effect", "Pearson delta")
    typer.echo("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for trained in (
            *demo_runs(Path(folder), override or []),
            *kang_runs(Path(folder), kang, held_out, override or []),
        ):
            for row in measured(trained, dealings, pairs):
                typer.echo(f"| {trained.data} | {trained.variant} | " + " | ".join(row) + " |")
    if kang is None:
        typer.echo("Kang's cells are left out: no --kang.")


def demo_runs(folder: Path, overrides: list[str]) -> Iterator[Trained]:
    """A run of each variant on the demo's screen."""
    from stateshift.demo import write_experiment
    from stateshift.features import create_features
    from stateshift.training import train

    experiment, _ = write_experiment(folder, 0)
    table = folder / "features.pt"
    create_features(from_toml=experiment, fasta=folder / "proteins.fasta", output=table)
    for i, (variant, words) in enumerate(VARIANTS.items()):
        run = train(experiment, [*words, *overrides], pert_features=table, output_dir=folder, name=f"demo{i}")
        yield Trained("demo", variant, run, folder / "screen.h5ad", {})


def kang_runs(folder: Path, data: Path | None, held_out: str, overrides: list[str]) -> Iterator[Trained]:
    """A run of each variant on Kang's cells without one cell type's stimulated ones."""
    from stateshift.training import train

    if data is None:
        return
    columns = {"perturbation": "group_id", "cell_type": "cluster_id", "control": "ctrl"}
    experiment = folder / "kang.toml"
    experiment.write_text(
        f'[datasets]\nkang = "{data.resolve()}"\n[training]\nkang = "train"\n[zeroshot]\n"kang.{held_out}" = "test"\n'
        '[features]\nsource = "onehot"\n[columns]\n' + "".join(f'{key} = "{value}"\n' for key, value in columns.items())
    )
    for i, (variant, words) in enumerate(VARIANTS.items()):
        run = train(experiment, [*words, *overrides], output_dir=folder, name=f"kang{i}")
        yield Trained("Kang", variant, run, data, columns)


def measured(trained: Trained, dealings: int, most: int) -> Iterator[list[str]]:
    """A row of figures for each size of sets."""
    from stateshift.cells import read_cells
    from stateshift.feature_table import FeatureTable
    from stateshift.metrics import pearson_delta
    from stateshift.progress import track
    from stateshift.run import open_run
    from stateshift.transition.checkpoint import load_transition

    run = open_run(trained.run)
    table = FeatureTable.load(run.features_file)
    model = load_transition(run, table.width)
    cells = read_cells(trained.cells, trained.columns, genes=run.genes())
    test = [(c, p) for c, found in run.splits()["test"].items() for p in sorted(found)[:: -(-len(found) // most)]]
    sizes = sorted({*SIZES, model.config.set_size})
    spread, moved = {S: [] for S in sizes}, []
    effects = {S: [] for S in sizes}
    true, n_controls = [], []
    for context, perturbation in track(test, "predicting"):
        of_context = (cells.obs["context"] == context).to_numpy()
        control_NG = cells.X.dense(np.flatnonzero(of_context & cells.is_control))
        perturbed = np.flatnonzero(of_context & (cells.obs["perturbation"] == perturbation).to_numpy())
        true.append(cells.X.dense(perturbed).mean(0) - control_NG.mean(0))
        n_controls.append(len(control_NG))
        vector = table.matrix([perturbation])
        for S in sizes:
            rng = np.random.default_rng(0)
            several = np.stack([dealt(model, control_NG, vector, S, rng) for _ in range(dealings)])
            mean_NG = np.nanmean(several, axis=0)
            spread[S].append(np.nanmean(np.nanvar(several, axis=0, ddof=1)))
            effects[S].append(np.nanmean(mean_NG - control_NG, axis=0))
            if model.config.set_size == S:
                moved.append(np.nanmean((mean_NG - control_NG) ** 2))
    trained_with = np.stack(effects[model.config.set_size])
    for S in sizes:
        effect = np.stack(effects[S])
        whole = max(n_controls) <= S
        yield [
            f"all, {max(n_controls)}" if whole else str(S) + ", as trained" * (model.config.set_size == S),
            "–" if whole else f"{np.sqrt(np.mean(spread[S]) / np.mean(moved)):.4f}",
            f"{np.linalg.norm(effect - trained_with) / np.linalg.norm(trained_with):.4f}",
            f"{np.nanmean(pearson_delta(effect, np.stack(true))):.4f}",
        ]


def dealt(model: Any, control_NG: np.ndarray, vector: np.ndarray, S: int, rng: np.random.Generator) -> np.ndarray:
    """Every control's predicted cell in one random dealing, (N, G); NaN for those that fill no whole set.

    Where there are fewer controls than S, all of them are one set.
    """
    import torch

    N = len(control_NG)
    S = min(S, N)
    order = rng.permutation(N)[: N // S * S]
    x = torch.from_numpy(control_NG)
    batch = {
        "ctrl_cell_emb": x[order].view(-1, S, x.shape[1]),
        "pert_emb": torch.from_numpy(vector).expand(N // S, -1),
        "ctrl_mean": x.mean(0).expand(N // S, -1),
    }
    with torch.inference_mode():
        predicted = model(batch).cells.flatten(0, 1).numpy()
    laid = np.full(control_NG.shape, np.nan, np.float32)
    laid[order] = predicted
    return laid


if __name__ == "__main__":
    typer.run(main)
