"""What a homolog tells a small RAG-ESM: masked perplexity on SCOP families that training never saw.

Trains RAG-ESM and, the same way and as long, plain ESM2, both from the demo model; then compares, protein by protein,
the losses with a true homolog, with a random protein, with the homolog's residues in random order, and of plain ESM2.

    python scripts/bench/rag_esm_homologs.py PROTEINS OUTPUT [--steps 2000]

PROTEINS holds scop40.fasta and scop40_classes.tsv.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

from stateshift.metrics import paired_bootstrap
from stateshift.rag_esm.homologs.choice import Contexts
from stateshift.rag_esm.homologs.data import make_data, read_data
from stateshift.rag_esm.model.checkpoint import load_rag_esm
from stateshift.rag_esm.training.train import train_rag_esm
from stateshift.rag_esm.training.validation import RATES, masked_losses, validation_pairs

LONGEST = 100
SHARED = [
    "base=null", "train_esm=true", "lr=5e-4", "cross_lr=2e-3", f"max_length={LONGEST}", f"max_context={LONGEST}",
    "tokens_per_batch=2048", "accumulate=1", "precision=32-true", "val_proteins=64", "context=random",
]  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("proteins", type=Path)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--steps", type=int, default=2000)
    asked = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = asked.output / "data"
    if not data.exists():
        fasta, classes = asked.proteins / "scop40.fasta", asked.proteins / "scop40_classes.tsv"
        print(make_data(fasta, data, classes=classes, min_members=3, max_length=LONGEST, val_share=0.15))
    every = [f"max_steps={asked.steps}", f"val_every={max(asked.steps // 10, 1)}"]
    for name, layers in (("rag", "all"), ("plain", "none")):
        if not (asked.output / name).exists():
            train_rag_esm(data, asked.output / name, overrides=[*SHARED, *every, f"cross_layers={layers}"])
    compare(data, asked.output)


def compare(data: Path, output: Path) -> None:
    """Losses on all validation families and their paired differences, whole families resampled."""
    rag, plain = (load_rag_esm(output / name).network for name in ("rag", "plain"))
    pairs = validation_pairs(read_data(data)[1], Contexts("random"), 400, LONGEST, LONGEST, seed=1)
    families, proteins, homologs = (list(column) for column in zip(*pairs))
    rng = np.random.default_rng(2)
    others = [homologs[(i + 1 + rng.integers(len(homologs) - 1)) % len(homologs)] for i in range(len(homologs))]
    shuffled = ["".join(rng.permutation(list(homolog))) for homolog in homologs]
    for rate in RATES:
        losses = {
            "homolog": masked_losses(rag, proteins, homologs, rate),
            "random protein": masked_losses(rag, proteins, others, rate),
            "shuffled homolog": masked_losses(rag, proteins, shuffled, rate),
            "plain ESM2": masked_losses(plain, proteins, None, rate),
        }
        print(f"\nmasked {rate}: " + ", ".join(f"{n} {np.exp(x.mean()):.3f}" for n, x in losses.items()))
        for name in list(losses)[1:]:
            d = paired_bootstrap(losses[name], losses["homolog"], families)
            print(f"  {name} minus homolog: {d.mean:+.4f} nats ({d.low:+.4f} to {d.high:+.4f}), {d.groups} families")


if __name__ == "__main__":
    main()
