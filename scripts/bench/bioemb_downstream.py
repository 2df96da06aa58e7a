"""SCOP class and family from sequence: BioEmb beside PCA, random projection and random codes of the same width.

python scripts/bench/bioemb_downstream.py scop40.fasta scop40_classes.tsv FOLDER [--checkpoint ESM2] [--domains 2000]
    [--epochs 10] [--width 32]

K562 calls of perturbations (a csv pert,gene,label,split), from any table of gene vectors:
python scripts/bench/bioemb_downstream.py TABLE k562-de.csv FOLDER --calls [--epochs 10] [--width 32]
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections import Counter
from pathlib import Path

import numpy as np

from stateshift.bioemb.comparison.evaluate import Score, evaluate_bioemb
from stateshift.bioemb.settings import Settings
from stateshift.bioemb.training.train import train_on
from stateshift.feature_table import FeatureTable
from stateshift.proteins import embed_proteins, load_esm2, read_fasta

LEAST = 5
"""Members of a family that is predicted."""


def domains(args: argparse.Namespace) -> tuple[FeatureTable, Path]:
    """Embeddings of domains of families with enough members, and their labels at ``labels.csv``."""
    classes = dict(line.split()[:2] for line in args.labels.read_text().splitlines())
    sequences = {p.id: p.sequence for p in read_fasta(args.vectors) if p.id in classes}
    members = Counter(classes[name] for name in sequences)
    names = [name for name in sequences if members[classes[name]] >= LEAST]
    if args.domains and len(names) > args.domains:
        # whole families, so that each keeps its members
        order = np.random.default_rng(0).permutation(sorted({classes[name] for name in names})).tolist()
        kept, count = set(), 0
        while count < args.domains:
            kept.add(order[-1])
            count += members[order.pop()]
        names = [name for name in names if classes[name] in kept]
    made = dict(embed_proteins(load_esm2(args.checkpoint), {name: sequences[name] for name in names}))
    path = args.folder / "labels.csv"
    with path.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["domain", "class", "family", "superfamily"])
        table.writerows([n, c.split(".")[0], c, c.rsplit(".", 1)[0]] for n in names for c in [classes[n]])
    return FeatureTable(names, np.stack([made[name] for name in names]), {"source": "esm2"}), path


def shown(title: str, compared: list[Score]) -> None:
    print(f"\n{title}\n| table | width | {compared[0].measure} | less raw |\n|---|---|---|---|")
    for s in compared:
        interval = f"{s.mean:.3f} [{s.low:.3f}, {s.high:.3f}]"
        less = f"{s.less_raw:+.3f} [{s.less_raw_low:+.3f}, {s.less_raw_high:+.3f}]"
        print(f"| {s.table} | {s.width} | {interval} | {less} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--domains", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--calls", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stateshift").setLevel(logging.INFO)
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(name="run", output_dir=str(args.folder))
    settings.training.epochs, settings.model.bottleneck = args.epochs, args.width
    if args.calls:
        train_on(settings, FeatureTable.load(args.vectors))
        columns = {"task_column": "gene", "split_column": "split"}
        given = {"run": args.folder / "run", "split": "given", **columns}
        shown("calls", evaluate_bioemb(args.labels, args.folder / "calls", **given))
        return
    table, labels = domains(args)
    train_on(settings, table)
    for label, group, split in (("class", "superfamily", "grouped"), ("family", None, "random")):
        given = {"run": args.folder / "run", "split": split, "label_column": label, "group_column": group}
        shown(f"{label}, {split} split", evaluate_bioemb(labels, args.folder / label, **given))


if __name__ == "__main__":
    main()
