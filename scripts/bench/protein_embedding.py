"""ESM2 embeddings beside fair-esm's package: residues a second, memory of long proteins, padding, a proteome.

python scripts/bench/protein_embedding.py speed [--shape 8M|150M] [--turns 3] [--every 1]
python scripts/bench/protein_embedding.py memory
python scripts/bench/protein_embedding.py proteome human.fasta

Two threads. Each way is a process of its own, and they take turns, so that other users of the machine slow all of them alike; ratios are taken turn by
turn. Rates are told by the clock and by the time that the processor spent on them (both threads' together, which wait
without spinning): on a machine that others use too, the second is the one that says something. fair-esm's tokens are
made beforehand, ours within the time.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "2"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import argparse
import multiprocessing
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SHAPES = {"8M": (6, 320, 20), "150M": (30, 640, 20)}
FAIR_ESM = ("fair-esm, one by one", "fair-esm, sorted, 2,048 tokens", "fair-esm, file order, 8 a batch")
WAYS = (*FAIR_ESM, "stateshift, fp32", "stateshift, bf16")


def model(shape: str, engine: str, precision: str):
    """A random model, the same for every engine; without AMX attention is in fp32 beside bf16."""
    from esm.data import Alphabet

    from stateshift.memory import keep_freed_memory
    from stateshift.proteins.esm2.fair_esm import FairESM
    from stateshift.proteins.esm2.models import ProteinModel, _network
    from stateshift.proteins.esm2.network import ESM2, Shape
    from stateshift.proteins.esm2.precision import attention_precision

    told = Shape(*SHAPES[shape])
    torch.manual_seed(0)
    weights = {}
    for name, weight in ESM2(told).state_dict().items():
        spread = (3 / weight.shape[-1]) ** 0.5 if weight.dim() == 2 else 0
        weights[name] = torch.empty_like(weight).uniform_(-spread, spread) if spread else weight
    weights["embedding"] = torch.randn_like(weights["embedding"])
    if engine == "fair-esm":
        network = FairESM(told, weights)
    else:
        keep_freed_memory()
        network = _network(told, weights, precision, attention_precision(precision, torch.device("cpu")))
    alphabet = Alphabet.from_architecture("ESM-1b")
    network = network.eval().requires_grad_(False)
    return ProteinModel(network, alphabet, f"random {shape}", told.layers, told.width, "", engine, precision)


def worker(way: str, shape: str, sequences: dict[str, str], line) -> None:
    """A process that embeds when it is told to, and says by clock and by processor how long it took."""
    from stateshift.proteins.embedding.embed import embed_sequences

    theirs = way in FAIR_ESM
    esm = model(shape, "fair-esm" if theirs else "stateshift", "bf16" if way.endswith("bf16") else "fp32")
    tokens = [esm.tokens(batch) for batch in fair_esm_batches(sequences, way)] if theirs else []
    while line.recv():
        start = np.array([time.perf_counter(), time.process_time()])
        with torch.no_grad():
            for batch in tokens:
                esm.network.theirs(batch, repr_layers=[esm.layers])
        if not theirs:
            list(embed_sequences(esm, sequences))
        line.send(np.array([time.perf_counter(), time.process_time()]) - start)


def proteins(every: int) -> dict[str, str]:
    """64 random proteins of 61 to 700 residues in a random order, or every n-th of them."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(61, 700, 64).astype(int)[::every]
    rng.shuffle(lengths)
    return {f"p{n}": "".join(rng.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for n, length in enumerate(lengths)}


def fair_esm_batches(sequences: dict[str, str], way: str) -> list[list[str]]:
    from stateshift.proteins.embedding.batches import plan

    texts = list(sequences.values())
    if way.endswith("one by one"):
        return [[text] for text in texts]
    if way.endswith("8 a batch"):
        return [texts[start : start + 8] for start in range(0, len(texts), 8)]
    groups = plan([len(text) for text in texts], 2048)
    return [[texts[piece.protein] for piece in batch] for group in groups for batch in group]


def speed(shape: str, turns: int, every: int) -> None:
    """Residues a second of every way, and of the products that bound them."""
    sequences = proteins(every)
    residues = sum(map(len, sequences.values()))
    lines = {}
    for way in WAYS:
        lines[way], other = multiprocessing.Pipe()
        given = (way, shape, sequences, other)
        multiprocessing.get_context("spawn").Process(target=worker, args=given, daemon=True).start()
    taken = {way: [] for way in WAYS}
    products = {"fp32": [], "bf16": []}
    for turn in range(turns + 1):
        for way, line in lines.items():
            line.send(True)
            seconds = line.recv()
            if turn:
                taken[way].append(residues / seconds)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            products[name].append(gflops(dtype, SHAPES[shape][1]))
        print(f"turn {turn}", {way: rates[-1].round().tolist() for way, rates in taken.items() if turn}, flush=True)
    for line in lines.values():
        line.send(False)
    print(f"\n{shape}, {len(sequences)} proteins, {residues:,} residues, {turns} turns")
    print(
        "| way | residues/s | × fair-esm's best | × its file order | residues a core-second | × best | × file order |"
    )
    print("|---|---|---|---|---|---|---|")
    rates = {way: np.array(of) for way, of in taken.items()}  # (turns, 2)
    best = np.max([rates[way] for way in FAIR_ESM], axis=0)
    for way, of in rates.items():
        told = [np.median(each, axis=0) for each in (of, of / best, of / rates[FAIR_ESM[-1]])]
        cells = [f"{told[0][clock]:,.0f} | {told[1][clock]:.2f} | {told[2][clock]:.2f}" for clock in (0, 1)]
        print(f"| {way} | {' | '.join(cells)} |")
    layers, width, _ = SHAPES[shape]
    for name, of in products.items():
        bound = statistics.median(of) * 1e9 / (2 * 12 * width**2 * layers)
        print(
            f"products in {name}: {statistics.median(of):.0f} GFLOP/core-s, {bound:,.0f} residues/core-s without attention"
        )


def gflops(dtype: torch.dtype, width: int) -> float:
    """Rate, by core-second, of the widest product of a layer on 2,048 tokens."""
    x, w = torch.randn(2048, width, dtype=dtype), torch.randn(4 * width, width, dtype=dtype)
    with torch.inference_mode():
        torch.nn.functional.linear(x, w)
        start = time.process_time()
        for _ in range(10):
            torch.nn.functional.linear(x, w)
    return 10 * 2 * x.shape[0] * w.numel() / (time.process_time() - start) / 1e9


def memory() -> None:
    """Peak memory of one protein, each in a process of its own."""
    for shape in SHAPES:
        for length in (1022, 5000):
            command = [sys.executable, __file__, "one", "--shape", shape, "--length", str(length)]
            print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), flush=True)


def one(shape: str, length: int) -> None:
    from stateshift.proteins.embedding.embed import embed_sequences

    esm = model(shape, "stateshift", "fp32")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    list(embed_sequences(esm, {"p": "M" + "K" * (length - 1)}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{shape}, {length:,} residues: peak {peak:,.0f} MiB, of which {peak - before:,.0f} since the model was there"
    )


def proteome(fasta: Path) -> None:
    """A proteome with the demo model, killed half-way and started again; everything that is written is counted."""
    from stateshift.proteins import EmbeddingStore
    from stateshift.proteins.store.reader import opened

    counting = (
        "import sys\nfrom stateshift.proteins.store import fill\nfrom stateshift.proteins.embed_file import embed_fasta\n"
        "inner = fill.embed_group\n"
        "def counted(*given):\n"
        "    for number, rows in inner(*given):\n"
        "        yield number, rows\n"
        "        print(number, file=log, flush=True)\n"
        "log = open(sys.argv[3], 'a')\nfill.embed_group = counted\n"
        "embed_fasta(sys.argv[1], sys.argv[2])\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder) / "x.h5", Path(folder) / "log"
        command = [sys.executable, "-c", counting, str(fasta), str(output), str(log)]
        start = time.perf_counter()
        running = subprocess.Popen(command)
        while running.poll() is None:
            time.sleep(5)
            part = output.with_name("x.h5.part")
            if part.exists():
                with opened(part) as file:
                    done = file["protein_check"][:] != 0
                if done.mean() > 0.5:
                    running.send_signal(signal.SIGKILL)
                    break
        if running.wait() >= 0:
            sys.exit("the embedding ended by itself, before it could be killed half-way: give it more proteins")
        first = time.perf_counter() - start
        subprocess.run(command, check=True)
        whole = time.perf_counter() - start
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        computed = log.read_text().split()
        with EmbeddingStore(output) as store:
            distinct = len({store.sequence(name) for name in store.ids})
            print(
                f"{len(store):,} proteins, {distinct:,} distinct: killed after {first:.0f} s, {whole:.0f} s in all, "
                f"{spent.ru_utime + spent.ru_stime:.0f} core-seconds; "
                f"{len(computed):,} embedded and written, {len(computed) - len(set(computed))} of them twice."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "memory", "proteome", "one"))
    parser.add_argument("fasta", nargs="?", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="8M")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th protein")
    parser.add_argument("--length", type=int, default=1022)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.shape, given.turns, given.every)
    elif given.what == "memory":
        memory()
    elif given.what == "one":
        one(given.shape, given.length)
    else:
        proteome(given.fasta)


if __name__ == "__main__":
    main()
