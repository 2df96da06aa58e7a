"""How long codes and their trie take, and what a batch's masks cost.

python scripts/bench/bioemb_codes.py [--table TABLE] [--entities 20000] [--width 1280] [--k 15]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from stateshift.bioemb.codes import build_trie, make_codes
from stateshift.feature_table import FeatureTable


def made(entities: int, width: int) -> FeatureTable:
    """Vectors with a spectrum like an embedding's: families, falling variances, and 1 % of copies."""
    rng = np.random.default_rng(0)
    scale = (np.arange(1, width + 1) ** -0.7).astype(np.float32)
    families = rng.standard_normal((entities // 20, width), dtype=np.float32)[
        rng.integers(entities // 20, size=entities)
    ]
    vectors = (families + 0.5 * rng.standard_normal((entities, width), dtype=np.float32)) * scale
    vectors[-entities // 100 :] = vectors[: entities // 100]
    return FeatureTable([f"G{i}" for i in range(entities)], vectors, {"source": "made"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--k", type=int, default=15)
    args = parser.parse_args()
    table = FeatureTable.load(args.table) if args.table else made(args.entities, args.width)
    start = time.perf_counter()
    codes = make_codes(table, k=args.k)
    seconds = time.perf_counter() - start
    errors = ", ".join(f"{e:.3f}" for e in codes.quantiser.errors)
    print(
        f"{len(table):,} × {table.width}: {seconds:.1f} s; {len(codes.codes):,} entities, {len(codes.aliases)} aliases,"
    )
    print(f"{codes.quantiser.levels} levels of {args.k}, numbered: {codes.numbered}; errors {errors}")
    start = time.perf_counter()
    trie = build_trie(codes.codes, codes.tokens)
    print(
        f"trie: {time.perf_counter() - start:.2f} s, {len(trie.children):,} nodes, {trie.children.nbytes / 2**20:.1f} MiB"
    )
    allowed, nodes = torch.from_numpy(trie.allowed), torch.from_numpy(trie.nodes)
    batches = [nodes[torch.randint(len(nodes), (32,))] for _ in range(2000)]
    start = time.perf_counter()
    for batch in batches:
        allowed[batch]
    each = (time.perf_counter() - start) / len(batches)
    print(f"masks of a batch of 32: {1e6 * each:.0f} µs")


if __name__ == "__main__":
    main()
