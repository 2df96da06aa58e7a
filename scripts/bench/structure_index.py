"""Build, memory, query time and recall of an index of random vectors.

python scripts/bench/structure_index.py --count 1000000 --width 1536      (some 7 GB of memory)
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from stateshift.vector_index import VectorIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--clusters", type=int, default=0, help="centres that vectors lie around; 0: none")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(args.clusters, 1), args.width)).astype(np.float32) * bool(args.clusters)
    rows = rng.standard_normal((args.count, args.width), dtype=np.float32)
    rows += centres[rng.integers(len(centres), size=args.count)]
    queries = rng.standard_normal((args.queries, args.width), dtype=np.float32)
    queries += centres[rng.integers(len(centres), size=args.queries)]
    index = VectorIndex(args.width)
    began = time.time()
    index.add(dict(zip(map(str, range(args.count)), rows)))
    built = time.time() - began
    began = time.time()
    found = index.search(queries, top_k=10)
    searched = time.time() - began
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1)
    truth = [np.argpartition(-(rows @ query) / lengths, 10)[:10] for query in unit]
    recall = np.mean([len({int(h.name) for h in hits} & set(t.tolist())) / 10 for hits, t in zip(found, truth)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{args.count:,} × {args.width}, {args.clusters} centres: built (tuning included) in {built:.0f} s, {index.stats()}"
    )
    print(
        f"{1000 * searched / args.queries:.1f} ms a query, recall@10 {recall:.3f}, peak {memory:.1f} GB with the raw vectors"
    )


if __name__ == "__main__":
    main()
