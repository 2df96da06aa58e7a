"""Training steps a second of `state_sm`: ours beside arc-state's, the same shapes, cells and features, in one run.

    python scripts/bench/transition_step.py --arc PYTHON
PYTHON is that of an environment that has arc-state; without it its columns are left out. 2,000 genes, features of
5,120, 8 sets of 128 cells, Adam, gradients clipped at 10, no loader. Each way is a process of its own, which holds the
model and takes steps when it is its turn; turns alternate. On a CPU time is a process's own processor time, which
others' work disturbs little; on a GPU (`--device cuda`) it is seconds. Model FLOPs utilisation is the time that the
matrix products of our step take alone at their rates in the same turn, over the time of the step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

SETS, CELLS, GENES, WIDTH = 8, 128, 2000, 5120
HERE = Path(__file__).resolve()


def main(
    arc: Annotated[Path | None, "PYTHON of an environment with arc-state"] = None,
    turns: int = 7,
    steps: int = 2,
    device: str = "cpu",
) -> None:
    """Print Markdown tables."""
    import numpy as np

    from stateshift.training import compose_config

    model = compose_config(["model=state_sm"])["model"]
    with tempfile.TemporaryDirectory() as folder:
        batch_file = _write_batch(Path(folder))
        threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
        ways = {"stateshift": (sys.executable, "ours"), "stateshift, start: none": (sys.executable, "bare")}
        if arc is not None:
            ways["arc-state"] = (str(arc), "theirs")
        workers = {name: Worker(python, kind, model, batch_file, device) for name, (python, kind) in ways.items()}
        print(f"{threads} thread(s), load {os.getloadavg()[0]:.1f} at the start\n")
        times = {(name, precision): [] for precision in ("fp32", "bf16") for name in workers}
        products = {"fp32": [], "bf16": []}
        for turn in range(turns + 1):
            for precision in ("fp32", "bf16"):
                for name, worker in workers.items():
                    seconds = worker.ask("steps", precision, steps) / steps
                    if turn:
                        times[name, precision].append(seconds)
                if turn:
                    products[precision].append(workers["stateshift"].ask("products", precision, 0))
        print(
            "| precision | way | steps/s, median | least | most | × arc-state fp32 | × arc-state same precision | MFU |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for (name, precision), seconds in times.items():
            rate = 1 / np.array(seconds)
            ratios = [
                _ratio(np.array(times["arc-state", other]), np.array(seconds)) if arc else ""
                for other in ("fp32", precision)
            ]
            share = np.array(products[precision]) / np.array(seconds)
            share = f"{np.median(share):.0%} ({share.min():.0%}–{share.max():.0%})" if name != "arc-state" else ""
            print(
                f"| {precision} | {name} | {np.median(rate):.3f} | {rate.min():.3f} | {rate.max():.3f} "
                f"| {ratios[0]} | {ratios[1]} | {share} |"
            )
        print("\n| way | peak memory, MB | parameters, M |\n|---|---|---|")
        for name, worker in workers.items():
            print(
                f"| {name} | {worker.ask('memory', 'fp32', 0):,.0f} | {worker.ask('parameters', 'fp32', 0) / 1e6:.1f} |"
            )


def _ratio(theirs, ours) -> str:
    import numpy as np

    ratio = theirs / ours
    return f"{np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f})"


class Worker:
    """A process with a model in it, that does what it is asked and answers with a number."""

    def __init__(self, python: str, kind: str, model: dict, batch: Path, device: str):
        self.process = subprocess.Popen(
            [python, HERE, "--worker", kind, json.dumps(model), batch, device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, what: str, precision: str, steps: int) -> float:
        self.process.stdin.write(f"{what} {precision} {steps}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                return float(line.split()[1])
        raise SystemExit(f"a worker ended: {self.process.wait()}")


def _write_batch(folder: Path) -> Path:
    """Cells as sparse as real ones and random features, ours once a set."""
    import torch

    random = torch.Generator().manual_seed(0)
    cells = [
        torch.rand(SETS, CELLS, GENES, generator=random) * 3 * (torch.rand(SETS, CELLS, GENES, generator=random) < 0.3)
        for _ in range(2)
    ]
    batch = {
        "pert_cell_emb": cells[0],
        "ctrl_cell_emb": cells[1],
        "pert_emb": torch.randn(SETS, WIDTH, generator=random),
        "mask": torch.ones(SETS, CELLS, dtype=torch.bool),
        "is_control": torch.zeros(SETS, dtype=torch.bool),
    }
    torch.save(batch, folder / "batch.pt")
    return folder / "batch.pt"


def work(kind: str, model: dict, batch_file: str, device: str) -> None:
    """Answer the requests that come in, until there are no more."""
    import resource

    if kind != "theirs":  # before torch, which it asks for large pages
        import stateshift  # noqa: F401
    import torch

    torch.manual_seed(0)
    batch = torch.load(batch_file, weights_only=True)
    module = _theirs(model) if kind == "theirs" else _ours(model, "none" if kind == "bare" else "effect")
    if kind == "theirs":
        batch = {name: batch[name].flatten(0, 1) for name in ("pert_cell_emb", "ctrl_cell_emb")} | {
            "pert_emb": batch["pert_emb"].repeat_interleave(CELLS, dim=0)
        }
    else:
        batch = module.on_before_batch_transfer(batch, 0)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    module.to(device).train()
    optimizer = module.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer

    def steps(n: int, precision: str) -> None:
        for _ in range(n):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                loss = module.training_step(batch, 0)
            loss = loss["loss"] if isinstance(loss, dict) else loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()

    for line in sys.stdin:
        what, precision, n = line.split()
        if what == "steps":
            answer = _seconds(lambda n=int(n), p=precision: steps(n, p), device)
        elif what == "products":
            answer = _seconds_of_products(model, torch.float32 if precision == "fp32" else torch.bfloat16, device)
        elif what == "memory":
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1000
            answer = (torch.cuda.max_memory_allocated() if device == "cuda" else resident) / 1e6
        else:
            answer = sum(p.numel() for p in module.parameters())
        print("answer", answer, flush=True)


def _seconds(job, device: str) -> float:
    """What a job takes: processor time on a CPU, time on a GPU."""
    import torch

    if device == "cpu":
        begin = time.process_time()
        job()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    job()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def _ours(model: dict, start: str):
    import torch

    from stateshift.transition import TransitionModule
    from stateshift.transition.checkpoint import config_from
    from stateshift.transition.optimiser import Optimiser

    config = config_from(model | {"start": start}, GENES, WIDTH, "log1p_1e4")
    module = TransitionModule(config, Optimiser(1e-4))
    if start == "effect":
        module.model.set_start(torch.randn(WIDTH, 64) * 0.01, torch.randn(64, GENES) * 0.01, torch.zeros(GENES))
    return module


def _theirs(model: dict):
    from state.tx.models.state_transition import StateTransitionPerturbationModel

    return StateTransitionPerturbationModel(
        input_dim=GENES, hidden_dim=model["hidden"], output_dim=GENES, pert_dim=WIDTH, output_space="gene",
        gene_dim=GENES, batch_size=SETS, lr=1e-4, dropout=model["dropout"], predict_residual=True,
        distributional_loss="energy", loss="energy", embed_key="X_hvg", gene_decoder_bool=False,
        cell_set_len=CELLS, n_encoder_layers=model["encoder_layers"], n_decoder_layers=model["decoder_layers"],
        use_basal_projection=model["basal_mlp"], transformer_backbone_key="llama",
        transformer_backbone_kwargs={
            "bidirectional_attention": True, "max_position_embeddings": CELLS, "hidden_size": model["hidden"],
            "intermediate_size": model["ffn"], "num_hidden_layers": model["layers"],
            "num_attention_heads": model["heads"], "num_key_value_heads": model["heads"],
            "head_dim": model["hidden"] // model["heads"], "use_cache": False, "attention_dropout": 0.0,
            "hidden_dropout": 0.0, "layer_norm_eps": 1e-6, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "tie_word_embeddings": False, "rotary_dim": 0, "use_rotary_embeddings": False,
        },
    )  # fmt: skip


def _seconds_of_products(model: dict, dtype, device: str) -> float:
    """Time of one step's matrix products alone: every linear layer's, forward and both gradients, and attention's."""
    import torch

    H, N, S, B = model["hidden"], SETS * CELLS, CELLS, SETS * model["heads"]
    D = H // model["heads"]
    layers, inner = model["layers"], model["encoder_layers"] - 1
    linear = {
        (N, H, H): 4 * layers + inner, (N, H, model["ffn"]): 2 * layers, (N, model["ffn"], H): layers,
        (N, H, GENES): 1, (N, GENES, H): 1,
    }  # fmt: skip
    total = 0.0
    for (rows, n_in, n_out), times in linear.items():
        shapes = (rows, n_in), (n_out, n_in), (rows, n_out)
        x, w, g = (torch.randn(*shape, device=device).to(dtype) for shape in shapes)
        jobs = [lambda x=x, w=w: x @ w.T, lambda x=x, g=g: g.T @ x, lambda g=g, w=w: g @ w]
        # no gradient goes to the cells
        total += times * sum(_fastest(job, device) for job in (jobs[:2] if (rows, n_in) == (N, GENES) else jobs))
    q, a = (torch.randn(B, S, n, device=device).to(dtype) for n in (D, S))
    return total + 3 * layers * sum(_fastest(job, device) for job in (lambda: q @ q.transpose(1, 2), lambda: a @ q))


def _fastest(job, device: str, tries: int = 3) -> float:
    return min(_seconds(job, device) for _ in range(tries))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], json.loads(sys.argv[3]), *sys.argv[4:])
    else:
        import typer

        typer.run(main)
