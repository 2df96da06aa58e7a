"""Are codes unique, and does decoding name the right gene, on embeddings of real proteins?

python scripts/bench/bioemb_recovery.py human_subset.fasta FOLDER [--checkpoint ESM2] [--genes 2000] [--epochs 50]
    [--width 64]
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np

from stateshift.bioemb.codes import described, make_codes
from stateshift.bioemb.encoders import input_table
from stateshift.bioemb.settings import DataSettings, Settings, read_settings
from stateshift.bioemb.training.train import train_on
from stateshift.feature_table import FeatureTable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fasta", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stateshift").setLevel(logging.INFO)
    kept = args.folder / "input.pt"
    if not kept.exists():
        words = [f"data.fasta={args.fasta}", "data.names=gene", "data.transductive=true"]
        words += [f"encoder.checkpoint={args.checkpoint}"] if args.checkpoint else []
        input_table(read_settings("proteins", words)).save(kept)
    table = FeatureTable.load(kept)
    start = time.perf_counter()
    print("\n".join(described(make_codes(table))), f"\n{time.perf_counter() - start:.1f} s")
    chosen = np.random.default_rng(0).permutation(len(table))[: args.genes]
    settings = Settings(name=f"genes_{args.genes}", output_dir=str(args.folder), data=DataSettings(transductive=True))
    settings.training.epochs, settings.model.bottleneck = args.epochs, args.width
    start = time.perf_counter()
    trained = train_on(settings, table.subset([table.genes[i] for i in sorted(chosen)]))
    print((trained.folder / "metrics.csv").read_text(), (trained.folder / "recovery.csv").read_text())
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
