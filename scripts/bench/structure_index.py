"""Build, memory, query time and recall of an index of made vectors, which are made block by block when asked for.

python scripts/bench/structure_index.py --count 1000000 --width 1536      (some 7 GB of memory)
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator, Mapping

import numpy as np

from stateshift.vector_index import VectorIndex

BLOCK = 25_000


class MadeVectors(Mapping):
    """Random vectors by number, around centres where there are some; one block is kept."""

    def __init__(self, count: int, width: int, clusters: int):
        self.count, self.width, self.seconds = count, width, 0.0
        self.centres = np.random.default_rng(0).standard_normal((clusters, width), dtype=np.float32)
        self.number, self.rows = -1, np.empty(0)

    def block(self, number: int) -> np.ndarray:
        """Rows (N, width) of one block."""
        if number != self.number:
            began = time.process_time()
            rng = np.random.default_rng([1, number])
            size = min(BLOCK, self.count - number * BLOCK)
            self.number, self.rows = number, rng.standard_normal((size, self.width), dtype=np.float32)
            if len(self.centres):
                self.rows += self.centres[rng.integers(len(self.centres), size=size)]
            self.seconds += time.process_time() - began
        return self.rows

    def __getitem__(self, name: str) -> np.ndarray:
        number, row = divmod(int(name), BLOCK)
        return self.block(number)[row]

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.count))

    def __len__(self) -> int:
        return self.count


def exact(made: MadeVectors, queries: np.ndarray) -> list[set[str]]:
    """The ten nearest of each query, by comparing with all in numpy."""
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    for number in range(-(-made.count // BLOCK)):
        rows = made.block(number)
        scores = queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        for query, line in enumerate(scores):
            near = [(float(line[j]), str(number * BLOCK + j)) for j in np.argpartition(-line, 10)[:10]]
            best[query] = sorted(best[query] + near, reverse=True)[:10]
    return [{name for _, name in nearest} for nearest in best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--clusters", type=int, default=0, help="centres that vectors lie around; 0: none")
    args = parser.parse_args()
    made = MadeVectors(args.count, args.width, args.clusters)
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((100, args.width), dtype=np.float32)
    if args.clusters:
        queries += made.centres[rng.integers(args.clusters, size=100)]
    index = VectorIndex(args.width)
    began, clock = time.process_time(), time.time()
    index.add(made)
    built = time.process_time() - began - made.seconds
    print(f"{args.count:,} × {args.width}, {args.clusters} centres")
    print(f"built in {built:.0f} core-seconds ({time.time() - clock:.0f} s with making the vectors and waiting)")
    print("; ".join(f"{key}: {value}" for key, value in index.stats().items()), flush=True)
    for size, turns in ((1, 20), (100, 3)):
        seconds = []
        for turn in range(turns):
            began = time.process_time()
            index.search(queries[turn : turn + 1] if size == 1 else queries, top_k=10)
            seconds.append((time.process_time() - began) / size)
        low, middle, high = 1000 * np.quantile(seconds, [0, 0.5, 1])
        print(f"{size} at once: {middle:.1f} core-ms a query ({low:.1f}–{high:.1f})", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB", flush=True)
    found = index.search(queries, top_k=10)
    recall = np.mean([len({hit.name for hit in hits} & truth) / 10 for hits, truth in zip(found, exact(made, queries))])
    print(f"recall@10 {recall:.3f} against numpy")


if __name__ == "__main__":
    main()
