"""Whole trainings on 18,080 genes from h5ad: `stateshift train` beside arc-state's command, by the shape of `state_tiny`.

    python scripts/bench/transition_training.py FOLDER --arc PYTHON
FOLDER holds the simulated file and the features, or gets them. Batches of 8 sets of 64 cells, features of 5,120, no
loader processes. All commands run at once, and each waits after an optimiser step for its turn, so that they meet the
same machine. A step is from the end of one to the end of the next: reading, the model, the optimiser and all that
Lightning does. On a CPU it is measured in processor seconds, which others' work disturbs little; on a GPU in seconds.
Each run is validated once, at its end. Memory is the largest resident size of a process; `best` its checkpoint on disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from cell_sets import _files

SETS, CELLS, GENES = 8, 64, 18_080
TAKING_TURNS = """
import os, sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook
given, told, clock = int(sys.argv[1]), int(sys.argv[2]), getattr(time, sys.argv[3])
del sys.argv[1:4]
begin = clock()
def turn(*_):
    global begin
    if clock is time.perf_counter:
        import torch
        torch.cuda.synchronize()
    os.write(told, f"{clock() - begin}\\n".encode())
    os.read(given, 1)
    begin = clock()
register_optimizer_step_post_hook(turn)
"""
OURS = "import stateshift" + TAKING_TURNS + "from stateshift.cli.main import run; run()"
THEIRS = TAKING_TURNS + "from state.__main__ import main; main()"


def main(
    folder: Annotated[Path, typer.Argument(help="Of the simulated file and of the runs.")],
    arc: Annotated[Path | None, typer.Option(help="PYTHON of an environment with arc-state.")] = None,
    steps: Annotated[int, typer.Option(min=3, help="Turns of each command, of one step each; two warm up.")] = 30,
    cells: Annotated[int, typer.Option(help="Simulated cells.")] = 20_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Print a Markdown table."""
    import numpy as np

    from stateshift.training import compose_config

    model = compose_config(["model=state_tiny"])["model"]
    folder.mkdir(parents=True, exist_ok=True)
    toml = _with_validation(_files(folder, cells, GENES))
    features = toml.with_name(f"genes_{GENES}.features.pt")
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    clock = "process_time" if device == "cpu" else "perf_counter"
    on = f"training.accelerator={device}"
    commands = {
        "stateshift": _ours(toml, features, runs, "ours", steps, on),
        "stateshift, bf16": _ours(toml, features, runs, "ours_bf16", steps, on, "training.precision=bf16-mixed"),
    }
    if arc is not None:
        commands["arc-state"] = _theirs(arc, toml, features, runs, "theirs", steps, model)
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    print(f"{threads} thread(s), load {os.getloadavg()[0]:.1f} at the start")
    trainings = {name: Training(command, clock, device) for name, command in commands.items()}
    seconds = {name: [] for name in trainings}
    for _ in range(steps):
        for name, training in trainings.items():
            seconds[name].append(training.step())
    ended = {name: training.end() for name, training in trainings.items()}
    print(f"load {os.getloadavg()[0]:.1f} at the end\n")
    print(
        "| way | seconds a step | ÷ arc-state | until the first step ends, s | peak memory, MB | best checkpoint, MB |"
    )
    print("|---|---|---|---|---|---|")
    for (name, times), folder_name in zip(seconds.items(), ("ours", "ours_bf16", "theirs")):
        ratio = np.array(seconds["arc-state"][2:]) / np.array(times[2:]) if arc else np.array([np.nan])
        best = (runs / folder_name / "checkpoints" / "best.ckpt").stat().st_size / 1e6
        print(
            f"| {name} | {_spread(times[2:], '.2f')} | {_spread(ratio, '.1f')} | {times[0]:.0f} "
            f"| {ended[name]:,.0f} | {best:.1f} |"
        )
    shutil.rmtree(runs)


class Training:
    """A command that waits after each optimiser step until it is its turn."""

    def __init__(self, command: list[str], clock: str, device: str):
        theirs, self._give = os.pipe()
        self._told, ours = os.pipe()
        python, dash_c, code, *arguments = command
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        self._process = subprocess.Popen(
            [python, dash_c, code, str(theirs), str(ours), clock, *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(theirs, ours), env={**os.environ, **hidden},
        )  # fmt: skip
        os.close(theirs)
        os.close(ours)
        self._lines = os.fdopen(self._told)
        self._waits = False

    def step(self) -> float:
        """Seconds of its next step."""
        if self._waits:
            os.write(self._give, b".")
        line = self._lines.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args[3:]))}\nended early: {self._process.wait()}")
        self._waits = True
        return float(line)

    def end(self) -> float:
        """Let it end; the largest resident size of its process in MB."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._give, b".")
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise SystemExit(f"{' '.join(map(str, self._process.args[3:]))}\nfailed")
        return used.ru_maxrss / 1000


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
        str(arc), "-c", THEIRS, "tx", "train", f"data.kwargs.toml_config_path={toml}", "data.kwargs.embed_key=null",
        "data.kwargs.output_space=gene", "data.kwargs.num_workers=0", "data.kwargs.batch_col=batch",
        "data.kwargs.pert_col=target_gene", "data.kwargs.cell_type_key=cell_type",
        "data.kwargs.control_pert=non-targeting", f"data.kwargs.perturbation_features_file={features}",
        f"training.max_steps={steps}", f"training.val_freq={steps}", f"training.ckpt_every_n_steps={steps}",
        f"training.batch_size={SETS}", "model=state", *(f"model.kwargs.{k.lstrip('+')}={v}" if k[0] != "+"
        else f"++model.kwargs.{k[1:]}={v}" for k, v in kwargs.items()),
        f"output_dir={runs}", f"name={name}", "use_wandb=false", "overwrite=true",
    ]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
