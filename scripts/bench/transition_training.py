"""Whole trainings on 18,080 genes from h5ad: `stateshift train` beside arc-state's command, by the shape of `state_tiny`.

    python scripts/bench/transition_training.py FOLDER --arc PYTHON
FOLDER holds the simulated file and the features, or gets them. Batches of 8 sets of 64 cells, features of 5,120, no
loader processes. Each command runs twice, short and long: its steps a second are those between. One run is validated
once, at its end. Memory is the largest resident size of the command's process; `best` is its checkpoint on disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from cell_sets import _files

SETS, CELLS, GENES = 8, 64, 18_080
OURS = "from stateshift.cli.main import run; run()"


def main(
    folder: Annotated[Path, typer.Argument(help="Of the simulated file and of the runs.")],
    arc: Annotated[Path | None, typer.Option(help="PYTHON of an environment with arc-state.")] = None,
    short: Annotated[int, typer.Option(help="Steps of the short run.")] = 10,
    steps: Annotated[int, typer.Option(help="Steps of the long run.")] = 60,
    cells: Annotated[int, typer.Option(help="Simulated cells.")] = 20_000,
    turns: Annotated[int, typer.Option(help="Pairs of runs of each command.")] = 2,
) -> None:
    """Print a Markdown table."""
    import numpy as np

    from stateshift.training import compose_config

    model = compose_config(["model=state_tiny"])["model"]
    folder.mkdir(parents=True, exist_ok=True)
    toml = _with_validation(_files(folder, cells, GENES))
    features = toml.with_name(f"genes_{GENES}.features.pt")
    runs = folder / "runs"
    ways = {
        "stateshift": lambda n, name: _ours(toml, features, runs, name, n),
        "stateshift, bf16": lambda n, name: _ours(toml, features, runs, name, n, "training.precision=bf16-mixed"),
    }
    if arc is not None:
        ways["arc-state"] = lambda n, name: _theirs(arc, toml, features, runs, name, n, model)
    rates = {name: [] for name in ways}
    walls, peaks, sizes = ({name: [] for name in ways} for _ in range(3))
    print(
        f"{os.environ.get('OMP_NUM_THREADS', os.cpu_count())} thread(s), load {os.getloadavg()[0]:.1f} at the start\n"
    )
    for _ in range(turns):
        for name, command in ways.items():
            seconds = {}
            for n in (short, steps):
                shutil.rmtree(runs / "bench", ignore_errors=True)
                seconds[n], peak = _timed(command(n, "bench"))
            rates[name].append((steps - short) / (seconds[steps] - seconds[short]))
            walls[name].append(seconds[steps])
            peaks[name].append(peak)
            sizes[name].append((runs / "bench" / "checkpoints" / "best.ckpt").stat().st_size / 1e6)
    shutil.rmtree(runs, ignore_errors=True)
    print(f"| way | steps/s | × arc-state | command, {steps} steps, s | peak memory, MB | best checkpoint, MB |")
    print("|---|---|---|---|---|---|")
    for name in ways:
        ratio = np.array(rates[name]) / np.array(rates["arc-state"]) if arc else np.array([np.nan])
        print(
            f"| {name} | {_spread(rates[name], '.2f')} | {_spread(ratio, '.1f')} | {_spread(walls[name], '.0f')} "
            f"| {_spread(peaks[name], ',.0f')} | {_spread(sizes[name], '.1f')} |"
        )


def _spread(values, form: str) -> str:
    import numpy as np

    return f"{np.median(values):{form}} ({np.min(values):{form}}–{np.max(values):{form}})"


def _with_validation(toml: Path) -> Path:
    """The experiment with a perturbation of the first cell type kept for validation."""
    import anndata as ad

    path = toml.with_name("with_validation.toml")
    obs = ad.read_h5ad(toml.with_suffix(".h5ad"), backed="r").obs
    first = sorted(obs["cell_type"].astype(str).unique())[0]
    counts = obs["target_gene"][obs["cell_type"] == first].value_counts()
    kept = next(str(gene) for gene in counts.index if gene != "non-targeting")
    path.write_text(toml.read_text() + f'[fewshot."simulated.{first}"]\nval = ["{kept}"]\n')
    return path


def _ours(toml: Path, features: Path, runs: Path, name: str, steps: int, *overrides: str) -> list[str]:
    return [
        sys.executable, "-c", OURS, "train", str(toml), "model=state_tiny", f"training.max_steps={steps}",
        f"training.val_every={steps}", f"data.batch_size={SETS}", *overrides,
        "--pert-features", str(features), "--output-dir", str(runs), "--name", name,
    ]  # fmt: skip


def _theirs(arc: Path, toml: Path, features: Path, runs: Path, name: str, steps: int, model: dict) -> list[str]:
    kwargs = {
        "cell_set_len": CELLS, "hidden_dim": model["hidden"], "n_encoder_layers": model["encoder_layers"],
        "n_decoder_layers": model["decoder_layers"], "+use_basal_projection": model["basal_mlp"],
        "+gene_decoder_bool": False, "transformer_backbone_kwargs.hidden_size": model["hidden"],
        "transformer_backbone_kwargs.intermediate_size": model["ffn"],
        "transformer_backbone_kwargs.num_hidden_layers": model["layers"],
        "transformer_backbone_kwargs.num_attention_heads": model["heads"],
        "transformer_backbone_kwargs.num_key_value_heads": model["heads"],
        "transformer_backbone_kwargs.head_dim": model["hidden"] // model["heads"],
    }  # fmt: skip
    return [
        str(arc.parent / "state"), "tx", "train", f"data.kwargs.toml_config_path={toml}", "data.kwargs.embed_key=null",
        "data.kwargs.output_space=gene", "data.kwargs.num_workers=0", "data.kwargs.batch_col=batch",
        "data.kwargs.pert_col=target_gene", "data.kwargs.cell_type_key=cell_type",
        "data.kwargs.control_pert=non-targeting", f"data.kwargs.perturbation_features_file={features}",
        f"training.max_steps={steps}", f"training.val_freq={steps}", f"training.ckpt_every_n_steps={steps}",
        f"training.batch_size={SETS}", "model=state", *(f"model.kwargs.{k.lstrip('+')}={v}" if k[0] != "+"
        else f"++model.kwargs.{k[1:]}={v}" for k, v in kwargs.items()),
        f"output_dir={runs}", f"name={name}", "use_wandb=false", "overwrite=true",
    ]  # fmt: skip


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds of a command, and the largest resident size of its process in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{''.join(said[-40:])}")
    return time.perf_counter() - begin, used.ru_maxrss / 1000


if __name__ == "__main__":
    typer.run(main)
