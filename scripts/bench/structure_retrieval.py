"""Does a trained aggregator find domains of the same topology, or family, better than mean pooling does?

CATH (leave-topology-out, TM-scores of the training domains):
    python scripts/bench/structure_retrieval.py cath FOLDER [--geometry] [--more FOLDER]
SCOP (families never trained on, from sequence; the trained aggregator is written to --output):
    python scripts/bench/structure_retrieval.py scop scop40.fasta scop40_classes.tsv --output aggregator.pt
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from stateshift.metrics import paired_bootstrap
from stateshift.proteins import load_esm2, read_fasta
from stateshift.proteins.classes import read_classes
from stateshift.structure.aggregator import aggregate
from stateshift.structure.parsing import read_chains
from stateshift.structure.residues import Entry, Esm2Residues
from stateshift.structure.training import (
    Pairs,
    TrainingSettings,
    class_pairs,
    tm_pairs,
    train_aggregator,
)

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def composition(sequences: list[str]) -> np.ndarray:
    return np.array([[s.count(letter) / len(s) for letter in LETTERS] for s in sequences])


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def average_precisions(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each domain as a query among all others."""
    scores, precisions = cosines(vectors), []
    for i, row in enumerate(scores):
        order = np.argsort(-np.delete(row, i), kind="stable")
        hit = np.delete(labels, i)[order] == labels[i]
        precisions.append((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())
    return np.array(precisions)


def first_hits(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where a domain's nearest other domain has its label."""
    scores = cosines(vectors)
    np.fill_diagonal(scores, -np.inf)
    return (labels[scores.argmax(axis=1)] == labels).astype(float)


def table(measure: str, scores: dict[str, np.ndarray], groups: np.ndarray) -> None:
    print(f"| vectors | {measure} | aggregator − it, by query | by class |\n|---|---|---|---|")
    best = scores["aggregator"]
    for name, values in scores.items():
        told = [f"{values.mean():.3f}"]
        for grouping in (None, groups.tolist()):
            d = paired_bootstrap(best, values, grouping)
            told.append("" if name == "aggregator" else f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
        print(f"| {name} | {' | '.join(told)} |")


def cath(args: argparse.Namespace) -> None:
    chains = {f.stem: read_chains(f)[0] for f in sorted(args.folder.glob("*.pdb"))}
    codes = dict(line.split()[:2] for line in (args.folder / "topologies.tsv").read_text().splitlines())
    names = list(chains)
    topology = np.array([".".join(codes[name].split(".")[:3]) for name in names])
    others = {f.name.split(".")[0]: read_chains(f)[0] for f in sorted(args.more.iterdir())} if args.more else {}
    pairs = stored_tm(args.tm, {**chains, **others})
    model = Esm2Residues(load_esm2(args.checkpoint), args.geometry)
    entries = [Entry.of_chain(name, chain, args.geometry) for name, chain in {**chains, **others}.items()]
    rows = dict(zip([e.name for e in entries], model.rows(entries)))
    settings = TrainingSettings(
        hidden=args.hidden, layers=args.layers, blocks=args.blocks, batch_size=256, pairs_per_epoch=2560,
        epochs=args.epochs, learning_rate=args.learning_rate, dropout=args.dropout, seed=args.seed,
    )  # fmt: skip
    found = np.zeros(len(names))
    topologies = sorted(set(topology))
    for fold in range(0, len(topologies), 2):
        test = set(topologies[fold : fold + 2])
        of, val = dict(zip(names, topology)), set()
        for i in range(2, len(topologies)):
            # two topologies choose the checkpoint, or more where no pair of theirs is of one fold by its TM-score
            val.add(topologies[(fold + i) % len(topologies)])
            held_out = {name for name in pairs.names if of.get(name) in val}
            if len(val) > 1 and (pairs.among(held_out).similarity >= 0.5).any():
                break
        seen = {name for name in pairs.names if of.get(name) not in val | test}
        began = time.time()
        with tempfile.TemporaryDirectory() as folder:
            trained = train_aggregator(
                pairs.among(seen), rows, model.identity, Path(folder) / "a.pt", settings, pairs.among(held_out), QUIET
            )
        precisions = average_precisions(aggregate(trained.model, [rows[name] for name in names]).numpy(), topology)
        mine = np.isin(topology, sorted(test))
        found[mine] = precisions[mine]
        told = f"{len(val)} topologies' validation PR-AUC {trained.training['val_pr_auc']:.3f}, {time.time() - began:.0f} s"
        print(f"{' '.join(sorted(test))}: {precisions[mine].mean():.3f}, {told}", flush=True)
    means = np.stack([rows[name].mean(dim=0).numpy() for name in names])
    width = model.esm.width
    scores = {
        "aggregator": found,
        "mean-pooled ESM2": average_precisions(means[:, :width], topology),
        "amino-acid composition": average_precisions(composition([chains[n].sequence for n in names]), topology),
    }
    if args.geometry:
        scores["mean-pooled ESM2 and geometry"] = average_precisions(means, topology)
        scores["mean-pooled geometry alone"] = average_precisions(means[:, width:], topology)
    table("mean average precision", scores, topology)
    for name in topologies:
        print(name, *(f"{key} {values[topology == name].mean():.3f}" for key, values in scores.items()), sep="; ")


def stored_tm(path: Path | None, chains: dict) -> Pairs:
    """TM-scores of all pairs, kept in a file where one is named: aligning takes minutes."""
    if path and path.exists():
        kept = np.load(path)
        return Pairs(kept["names"].tolist(), kept["index"], kept["sim"])
    pairs = tm_pairs(chains)
    if path:
        np.savez(path, names=pairs.names, index=pairs.index, sim=pairs.similarity)
    return pairs


def scop(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    classes = read_classes(args.classes)
    sequences = {p.id: p.sequence for p in read_fasta(args.fasta) if p.id in classes}
    families: dict[str, list[str]] = {}
    for name in sequences:
        families.setdefault(classes[name], []).append(name)
    wide = [family for family in rng.permutation(sorted(families)) if len(families[family]) > 1]
    test: list[str] = []
    while len(test) < args.held_out:
        test += families[wide.pop()]
    test = test[: args.held_out]
    superfamilies = {classes[name].rsplit(".", 1)[0] for name in test}
    free = [family for family in wide if family.rsplit(".", 1)[0] not in superfamilies]
    val = [name for family in free[:80] for name in families[family]]
    train = [name for family in free[80:] for name in families[family]][: args.train]
    print(f"{len(test)} test, {len(val)} validation, {len(train)} training domains", flush=True)
    model = Esm2Residues(load_esm2(args.checkpoint))
    used = list(dict.fromkeys(test + val + train))
    rows = dict(zip(used, model.rows([Entry(name, sequences[name]) for name in used])))
    settings = TrainingSettings(
        hidden=args.hidden, layers=args.layers, blocks=args.blocks, batch_size=args.batch_size, pairs_per_epoch=960,
        epochs=args.epochs, learning_rate=args.learning_rate, dropout=args.dropout, seed=args.seed,
    )  # fmt: skip
    pairs, val_pairs = (
        class_pairs({name: classes[name] for name in part}, n)
        for part, n in ((train, args.pairs_per_level), (val, 150))
    )
    began = time.time()
    trained = train_aggregator(pairs, rows, model.identity, args.output, settings, val_pairs, QUIET)
    print(f"{time.time() - began:.0f} s, {trained.training}")
    labels = np.array([classes[name] for name in test])
    vectors = {
        "aggregator": aggregate(trained.model, [rows[name] for name in test]).numpy(),
        "mean-pooled ESM2": np.stack([rows[name].mean(dim=0).numpy() for name in test]),
        "amino-acid composition": composition([sequences[name] for name in test]),
    }
    table("top-1", {name: first_hits(v, labels) for name, v in vectors.items()}, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="an ESM2 model; default the demo model")
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    ways = parser.add_subparsers(required=True)
    way = ways.add_parser("cath")
    way.add_argument("folder", type=Path)
    way.add_argument("--more", type=Path, help="further structures to train on")
    way.add_argument("--geometry", action="store_true")
    way.add_argument("--tm", type=Path, help="an .npz that keeps the TM-scores")
    way.set_defaults(do=cath)
    way = ways.add_parser("scop")
    way.add_argument("fasta", type=Path)
    way.add_argument("classes", type=Path)
    way.add_argument("--output", type=Path, required=True)
    way.add_argument("--held-out", type=int, default=1000)
    way.add_argument("--train", type=int, default=2500)
    way.add_argument("--pairs-per-level", type=int, default=3000)
    way.add_argument("--batch-size", type=int, default=48)
    way.set_defaults(do=scop)
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
