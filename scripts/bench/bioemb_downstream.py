"""SCOP class and family from sequence: BioEmb beside the raw table, PCA, projection, MLM and random codes.

python scripts/bench/bioemb_downstream.py scop40.fasta scop40_classes.tsv FOLDER [--checkpoint ESM2] [--domains 2000]
    [--epochs 10] [--width 32]

K562 calls of perturbations (a csv pert,gene,label,split), from any table of gene vectors; test perturbations are held
out from the fit:
python scripts/bench/bioemb_downstream.py TABLE k562-de.csv FOLDER --calls [--epochs 10] [--width 32]
"""

from __future__ import annotations

import argparse
import csv
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from stateshift.bioemb.comparison.evaluate import Score, evaluate_bioemb
from stateshift.bioemb.training.mlm import train_mlm
from stateshift.bioemb.training.train import train_bioemb
from stateshift.proteins import read_fasta

LEAST = 5
"""Members of a family that is predicted."""


def write_domains(args: argparse.Namespace) -> None:
    """Domains of families with enough members, as ``domains.fasta`` and ``labels.csv``."""
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
    (args.folder / "domains.fasta").write_text("".join(f">{name}\n{sequences[name]}\n" for name in names))
    path = args.folder / "labels.csv"
    with path.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["domain", "class", "family", "superfamily"])
        table.writerows([n, c.split(".")[0], c, c.rsplit(".", 1)[0]] for n in names for c in [classes[n]])


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
    words = [f"output_dir={args.folder}", f"training.epochs={args.epochs}", f"model.bottleneck={args.width}"]
    run = args.folder / "run"
    if args.calls:
        with args.labels.open(newline="") as handle:
            test = dict.fromkeys(row["pert"] for row in csv.DictReader(handle) if row["split"] == "test")
        (args.folder / "test.txt").write_text("\n".join(test) + "\n")
        train_bioemb(
            "genes", [*words, "name=run", f"data.table={args.vectors}", f"data.held_out={args.folder / 'test.txt'}"]
        )
        columns = {"task_column": "gene", "split_column": "split"}
        shown("calls", evaluate_bioemb(args.labels, args.folder / "calls", run=run, split="given", **columns))
        return
    write_domains(args)
    words += [f"data.fasta={args.folder / 'domains.fasta'}", "data.transductive=true"]
    words += [f"encoder.checkpoint={args.checkpoint}"] if args.checkpoint else []
    train_bioemb("proteins", [*words, "name=run"])
    train_mlm("proteins", [*words, "name=mlm"])
    for label, group, split in (("class", "superfamily", "grouped"), ("family", None, "random")):
        output = args.folder / label
        if label == "family":  # the same training on random codes
            shutil.copytree(args.folder / "class" / "random_codes", output / "random_codes")
        given = {"run": run, "mlm": args.folder / "mlm", "label_column": label, "group_column": group}
        shown(f"{label}, {split} split", evaluate_bioemb(args.folder / "labels.csv", output, split=split, **given))


if __name__ == "__main__":
    main()
