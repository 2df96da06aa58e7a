"""Aggregator: chains of mixed lengths together against one by one, on one thread.

python scripts/bench/structure_throughput.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from stateshift.structure.aggregator import Aggregator, AggregatorShape, aggregate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 640, 1280])
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| width | residues | one by one, chains/s | together | ratio, turn by turn | largest difference |")
    print("|---|---|---|---|---|---|")
    for width in args.widths:
        model = Aggregator(AggregatorShape.for_width(width)).eval()
        for least, most in ((10, 60), (30, 400)):
            rng = np.random.default_rng(0)
            count = max(64 * 128 // width, 8)
            chains = [torch.randn(int(n), width) for n in rng.integers(least, most, size=count)]
            alone_s, together_s = [], []
            for _ in range(args.turns):
                began = time.process_time()
                with torch.no_grad():
                    alone = torch.cat([model(chain[None]) for chain in chains])
                middle = time.process_time()
                together = aggregate(model, chains)
                alone_s.append(middle - began)
                together_s.append(time.process_time() - middle)
            ratios = np.array(alone_s) / np.array(together_s)
            difference = float((alone - together).abs().max() / alone.abs().max())
            told = f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f}) | {difference:.0e}"
            speeds = (count / np.median(seconds) for seconds in (alone_s, together_s))
            print(f"| {width} | {least}–{most} | {' | '.join(f'{s:,.1f}' for s in speeds)} | {told} |", flush=True)


if __name__ == "__main__":
    main()
