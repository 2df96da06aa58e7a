"""RAG-ESM's speed and memory: sampling in a batch beside one by one, a training step beside plain ESM2's, real pairs.

    python scripts/bench/rag_esm_speed.py sampling [--model demo|8M] [--residues 100] [--iterations 100] [--proteins 32]
    python scripts/bench/rag_esm_speed.py commands [--residues 100] [--iterations 100] [--proteins 32]
    python scripts/bench/rag_esm_speed.py products
    python scripts/bench/rag_esm_speed.py step [--model demo|8M]
    python scripts/bench/rag_esm_speed.py pairs HOMOLOG_PAIRS CHECKPOINT [--iterations 5]

Ways take turns and ratios are of medians of CPU time. Models are the embedded demo ESM2 or random weights of the 8M shape, with
cross blocks after every second layer whose gates are open.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stateshift.proteins.esm2.network import ESM2, Shape
from stateshift.rag_esm.model.checkpoint import TrainedRagESM, new_rag_esm, save_rag_esm
from stateshift.rag_esm.model.layers import cross_layers
from stateshift.rag_esm.model.network import RagESM
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.rag_esm.sampling.inputs import Request
from stateshift.rag_esm.sampling.sample import generate, sample
from stateshift.rag_esm.sampling.settings import SamplingSettings


def network(model: str, cross: str = "alternate-2") -> RagESM:
    torch.manual_seed(0)
    if model == "demo":
        made = new_rag_esm(layers=cross).network
    else:
        made = RagESM(ESM2(Shape(6, 320, 20)), cross_layers(cross, 6))
        for weight in made.esm.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.02)
    for block in made.cross.values():
        torch.nn.init.constant_(block.gate, 0.3)
        torch.nn.init.constant_(block.mlp_gate, 0.3)
    return made.requires_grad_(False)


def protein(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("LAGVSERTIDPKQNFYMHWC"), length))


def sampling(model: str, residues: int, iterations: int, proteins: int) -> None:
    made = network(model)
    encoded = []
    encode = made.encode
    made.encode = lambda tokens: encoded.append(len(tokens)) or encode(tokens)
    requests = [Request(str(i), "-" * residues, "c", protein(residues, i)) for i in range(proteins)]
    settings = SamplingSettings(iterations=iterations, top_k=10, temperature=0.7)
    few = min(4, proteins)
    whole, single = [], []
    for _ in range(3):
        start = time.process_time()
        generate(made, requests, settings, batch_size=proteins)
        whole.append((time.process_time() - start) / proteins)
        start = time.process_time()
        generate(made, requests[:few], settings, batch_size=1)
        single.append((time.process_time() - start) / few)
    print(f"{model}: contexts encoded {encoded[0]} in one call of {iterations} iterations")
    print(
        f"{statistics.median(whole):.3f} s a protein in a batch, {statistics.median(single):.3f} s one by one: "
        f"{statistics.median(single) / statistics.median(whole):.2f} times"
    )


def commands(residues: int, iterations: int, proteins: int) -> None:
    """CPU time of `stateshift rag-esm sample` on one protein and on all, each a process of its own."""
    import subprocess

    def spent(number: int, folder: Path) -> float:
        for name, made in (("in", lambda i: "-" * residues), ("ctx", lambda i: protein(residues, i))):
            (folder / f"{name}.fasta").write_text("".join(f">{i}\n{made(i)}\n" for i in range(number)))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = ["stateshift", "rag-esm", "sample", "--checkpoint", "model", "--input", "in.fasta", "--context"]
        words += [
            "ctx.fasta",
            "--iterations",
            str(iterations),
            "--top-k",
            "10",
            "-o",
            f"out{len(list(folder.iterdir()))}",
        ]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_rag_esm(TrainedRagESM(network("demo")), folder / "model")
        turns = [(spent(1, folder), spent(proteins, folder)) for _ in range(2)]
    one, whole = (statistics.median(column) for column in zip(*turns))
    print(
        f"one protein {one:.2f} CPU s, {proteins} at once {whole:.2f}, one by one {proteins * one:.2f}: "
        f"{proteins * one / whole:.2f} times"
    )


def products() -> None:
    """Rates of the feed-forward's matrix product with the rows of one protein and of 32."""
    weight = torch.randn(512, 128)
    for rows in (102, 32 * 102):
        x, rates = torch.randn(rows, 128), []
        for _ in range(20):
            start = time.process_time()
            for _ in range(20):
                torch.nn.functional.linear(x, weight)
            rates.append(20 * 2 * x.numel() * 512 / (time.process_time() - start) / 1e9)
        print(f"{rows} rows: {statistics.median(rates):.0f} GFLOP/s")


def step(model: str) -> None:
    """Peak memory of a step above what the process held before, each in a process of its own."""
    import subprocess
    import sys

    found = {}
    for way in ("plain", "rag"):
        done = subprocess.run(
            [sys.executable, __file__, "one-step", "--model", model, "--way", way],
            capture_output=True,
            text=True,
            check=True,
        )
        found[way] = float(done.stdout)
    print(
        f"{model}: plain ESM2 {found['plain']:.0f} MB, RAG-ESM {found['rag']:.0f} MB: {found['rag'] / found['plain']:.2f} times"
    )


def one_step(model: str, way: str) -> None:
    from stateshift.rag_esm.training.batches import Batch
    from stateshift.rag_esm.training.masking import masked
    from stateshift.rag_esm.training.module import Training
    from stateshift.rag_esm.training.settings import settings_of

    made = network(model, "alternate-2" if way == "rag" else "none")
    overrides = ["base=null", *(["cross_layers=none", "train_esm=true"] if way == "plain" else [])]
    module = Training(made, settings_of({}, overrides))
    module.log = lambda *_: None
    optimiser = module.configure_optimizers()
    sequences, contexts = ([protein(254, k + i) for i in range(16)] for k in (0, 100))
    tokens, targets = masked(tokens_of(sequences), 0.3, np.random.default_rng(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        module.training_step(Batch(tokens, targets, tokens_of(contexts), 0.3)).backward()
        optimiser.step()
        optimiser.zero_grad()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def pairs(folder: Path, checkpoint: Path, iterations: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        made = sample(
            checkpoint, Path(place) / "out", context=folder / "context_sequences_test_set.fasta",
            masked=folder / "input_sequences_test_set.fasta", settings=SamplingSettings(iterations=iterations, top_k=10),
        )  # fmt: skip
        number = (made / "generated.fasta").read_text().count(">")
        print(f"{number} pairs in {time.perf_counter() - start:.0f} s, {time.process_time():.0f} CPU s")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["sampling", "commands", "products", "step", "one-step", "pairs"])
    arguments.add_argument("files", nargs="*", type=Path)
    arguments.add_argument("--model", default="demo", choices=["demo", "8M"])
    arguments.add_argument("--way", default="rag")
    for name, number in (("residues", 100), ("iterations", 100), ("proteins", 32)):
        arguments.add_argument(f"--{name}", type=int, default=number)
    asked = arguments.parse_args()
    if asked.what == "sampling":
        sampling(asked.model, asked.residues, asked.iterations, asked.proteins)
    elif asked.what == "commands":
        commands(asked.residues, asked.iterations, asked.proteins)
    elif asked.what == "products":
        products()
    elif asked.what == "step":
        step(asked.model)
    elif asked.what == "one-step":
        one_step(asked.model, asked.way)
    else:
        pairs(*asked.files, asked.iterations)


if __name__ == "__main__":
    main()
