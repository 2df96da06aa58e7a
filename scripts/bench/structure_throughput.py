"""Aggregator: chains of mixed lengths together against one by one, on one thread, in processor time.

python scripts/bench/structure_throughput.py [--widths 128 640 1536]

One by one is measured twice: this aggregator, and PyTorch's own encoder with the same weights. The floor is what the
matrix products alone would take at the rate that one large product of this width reaches: no batch can be faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from stateshift.structure.aggregator import Aggregator, AggregatorShape, aggregate


class PlainAggregator(nn.Module):
    """The same network of PyTorch's encoder, with an aggregator's weights."""

    def __init__(self, model: Aggregator):
        super().__init__()
        shape = model.shape
        layer = nn.TransformerEncoderLayer(shape.hidden, shape.heads, shape.feedforward, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, shape.layers)
        self.embedding = model.embedding
        self.load_state_dict(model.state_dict())

    def forward(self, chain: Tensor) -> Tensor:
        """(L, D) to (1, H)."""
        return self.embedding(self.transformer(chain[None]).sum(dim=1))


def gigaflops(shape: AggregatorShape, lengths: list[int]) -> float:
    """Of all matrix products, attention's included, in 10⁹."""
    h, f = shape.hidden, shape.feedforward
    a_residue = 2 * (4 * h * h + 2 * h * f)
    layers = sum(length * a_residue + 4 * length * length * h for length in lengths)
    return (shape.layers * layers + len(lengths) * (2 * shape.blocks + 1) * 2 * h * h) / 1e9


def rate(width: int) -> float:
    """GFLOP/s of one product of 2,048 rows."""
    rows, weights = torch.randn(2048, width), torch.randn(width, 2 * width)
    seconds = [timed(lambda: rows @ weights)[0] for _ in range(8)]
    return 2 * 2048 * width * 2 * width / min(seconds) / 1e9


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def in_turns(model: Aggregator, chains: list[Tensor], turns: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Vectors by the three ways, and the processor seconds of each in each turn (T, 3)."""
    plain = PlainAggregator(model).eval()
    ways = {
        "plain": lambda: torch.cat([plain(chain) for chain in chains]),
        "alone": lambda: torch.cat([model(chain[None]) for chain in chains]),
        "together": lambda: aggregate(model, chains),
    }
    with torch.inference_mode():
        made = {name: work() for name, work in ways.items()}
        return made, np.array([[timed(work)[0] for work in ways.values()] for _ in range(turns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 640, 1536])
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = "width | residues | PyTorch one by one, ms a chain | ours one by one | together | × PyTorch | × ours"
    print(f"| {columns} | floor, ms | largest difference |\n|{'---|' * 9}")
    for width in args.widths:
        model = Aggregator(AggregatorShape.for_width(width)).eval()
        for least, most in ((10, 60), (30, 400)):
            lengths = np.random.default_rng(0).integers(least, most, size=max(64 * 128 // width, 8)).tolist()
            chains = [torch.randn(length, width) for length in lengths]
            made, seconds = in_turns(model, chains, args.turns)
            floor = 1000 * gigaflops(model.shape, lengths) / rate(width) / len(chains)
            told = [f"{1000 * s / len(chains):.3g}" for s in np.median(seconds, axis=0)]
            for way in (0, 1):
                ratios = seconds[:, way] / seconds[:, 2]
                told.append(f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})")
            difference = max((made[way] - made["plain"]).abs().max() for way in made) / made["plain"].abs().max()
            told += [f"{floor:.3g}", f"{difference:.0e}"]
            print(f"| {width} | {least}–{most} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
