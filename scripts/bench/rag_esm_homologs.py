"""What a homolog tells a small RAG-ESM: masked perplexity on SCOP families that training never saw.

RAG-ESM and plain ESM2, both from the embedded demo model, are trained on the same proteins in the same order, masks
and number of steps: first on windows of proteins, then on whole ones. Contexts are members of a protein's SCOP family
or simulated relatives of it. What tells RAG-ESM where to look is guided attention: beside the loss of hidden residues
stands −log of the attention that a residue pays to the one aligned with it (Garg et al. 2019, arXiv:1909.02074), known
for simulated relatives and by global alignment otherwise. Plain ESM2 has no attention to guide. A step of it costs less
than half of RAG-ESM's, so it is also trained for 2.3 times the steps.

    python scripts/bench/rag_esm_homologs.py PROTEINS OUTPUT

PROTEINS holds scop40.fasta and scop40_classes.tsv. Families are split into three: those trained on, those that
settings were chosen by, and those compared on, once, with the last weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stateshift.metrics import paired_bootstrap
from stateshift.rag_esm.homologs.choice import Contexts
from stateshift.rag_esm.homologs.clusters import Cluster
from stateshift.rag_esm.homologs.sources import read_source
from stateshift.rag_esm.model.checkpoint import TrainedRagESM, load_rag_esm, new_rag_esm, save_rag_esm
from stateshift.rag_esm.model.network import Context, RagESM
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.rag_esm.training.masking import IGNORED, masked
from stateshift.rag_esm.training.validation import RATES, masked_losses, validation_pairs

try:
    import parasail
except ImportError:
    sys.exit("Guided attention aligns with parasail, which is not installed: pip install 'stateshift[rag]'.")

SHORTEST, LONGEST = 30, 128
TEST, VAL = 220, 70
LONGER = 2.3
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SHARES = np.array(
    [.078, .019, .054, .063, .039, .074, .022, .052, .057, .090, .022, .045, .052, .043, .051, .057, .051, .073, .013, .032]
)  # fmt: skip
SHARES /= SHARES.sum()


class Stage(NamedTuple):
    """Steps, residues of a window, pairs a batch, learning rate, share of pairs from SCOP families, weight of the guide."""

    steps: int
    window: int
    pairs: int
    lr: float
    real: float
    guide: float


STAGES = {"windows": Stage(600, 56, 12, 2e-3, 0.3, 0.5), "whole": Stage(320, LONGEST, 8, 1.5e-3, 0.75, 0.25)}


def split(proteins: Path) -> tuple[list[Cluster], list[Cluster], list[Cluster], list[str]]:
    """Families to train on, to choose by and to compare on; and the proteins that simulated relatives are made of."""
    rng = np.random.default_rng(0)
    families = []
    for c in read_source(proteins / "scop40.fasta", proteins / "scop40_classes.tsv"):
        kept = [i for i, s in enumerate(c.sequences) if SHORTEST <= len(s) <= LONGEST]
        if kept:
            families.append(Cluster(c.name, tuple(c.ids[i] for i in kept), tuple(c.sequences[i] for i in kept)))
    related = [c for c in families if len(c) > 1]
    order = [related[i] for i in rng.permutation(len(related))]
    test, val, train = order[:TEST], order[TEST : TEST + VAL], order[TEST + VAL :]
    held = {s for c in test + val for s in c.sequences}
    pool = [s for c in train for s in c.sequences]
    pool += [c.sequences[0] for c in families if len(c) == 1 and c.sequences[0] not in held]
    assert not held & set(pool), "a held-out sequence is trained on"
    order = np.random.default_rng(3).permutation(len(pool))
    return train, val, test, [pool[i] for i in order[:-60]]


def drawn_from(cumulative: np.ndarray, rng: np.random.Generator, number: int) -> np.ndarray:
    """Numbers of letters, of cumulative chances (20,) or (number, 20)."""
    return (rng.random(number)[:, None] > cumulative).sum(1).clip(0, 19)


def substitutions() -> np.ndarray:
    """(20, 20) cumulative chances of the letter that takes another's place, of BLOSUM62 (Henikoff & Henikoff 1992)."""
    at = ["ARNDCQEGHILKMFPSTWYV".index(letter) for letter in LETTERS]
    scores = parasail.blosum62.matrix[np.ix_(at, at)]
    joint = SHARES[:, None] * SHARES * np.exp(0.3176 * scores)
    return (joint / joint.sum(1, keepdims=True)).cumsum(1)


def relative(protein: str, change: float, cumulative: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A simulated relative, and where in it each residue stands (L,); −1 where it is gone.

    Each residue is drawn anew with chance `change`, which leaves 30 % identity at 1; 1.5 % × `change` of places begin a
    deletion and as many an insertion, 2.5 residues long on average.
    """
    codes = np.array([max(LETTERS.find(x), 0) for x in protein])
    new = drawn_from(cumulative[codes], rng, len(codes))
    codes = np.where(rng.random(len(codes)) < change, new, codes)
    gone = np.zeros(len(codes), bool)
    for place in np.flatnonzero(rng.random(len(codes)) < 0.015 * change):
        gone[place : place + rng.geometric(0.4)] = True
    inserted = np.where(rng.random(len(codes)) < 0.015 * change, rng.geometric(0.4, len(codes)), 0)
    made: list[int] = []
    where = np.full(len(codes), -1)
    for i, code in enumerate(codes):
        if inserted[i]:
            made += list(drawn_from(SHARES.cumsum(), rng, inserted[i]))
        if not gone[i]:
            where[i] = len(made)
            made.append(code)
    return "".join(LETTERS[code] for code in made), where


def aligned(a: str, b: str) -> np.ndarray:
    """Where in b each residue of a stands by global alignment, ends free; −1 at gaps."""
    trace = parasail.sg_trace_striped_16(a, b, 11, 1, parasail.blosum62).traceback
    in_a, in_b = (np.array(list(row)) != "-" for row in (trace.query, trace.ref))
    return np.where(in_b, in_b.cumsum() - 1, -1)[in_a]


class Pairs:
    """Draws proteins, contexts, and where in the context each residue of the protein stands."""

    def __init__(self, families: Sequence[Cluster], pool: Sequence[str]):
        self.families, self.pool = families, pool
        self.contexts, self.cumulative = Contexts("top-k", 3), substitutions()

    def draw(self, stage: Stage, rng: np.random.Generator) -> tuple[str, str, np.ndarray]:
        if rng.random() < stage.real:
            family = self.families[rng.integers(len(self.families))]
            member = int(rng.integers(len(family)))
            protein = family.sequences[member]
            context = family.sequences[self.contexts.draw(family, member, rng)]
            where = aligned(protein, context)
        else:
            protein = self.pool[rng.integers(len(self.pool))]
            context, where = relative(protein, rng.uniform(0.05, 1), self.cumulative, rng)
        return windowed(protein, context, where, stage.window, rng)


def windowed(
    protein: str, context: str, where: np.ndarray, window: int, rng: np.random.Generator
) -> tuple[str, str, np.ndarray]:
    """A window of a longer protein, and what is aligned with it with up to seven residues on either side."""
    if len(protein) <= window:
        return protein, context, where
    start = int(rng.integers(len(protein) - window + 1))
    where = where[start : start + window]
    there = where[where >= 0]
    first = max(0, (there.min() if len(there) else 0) - int(rng.integers(8)))
    last = (there.max() if len(there) else len(context)) + 1 + int(rng.integers(8))
    return protein[start : start + window], context[first:last], np.where(where >= 0, where - first, -1)


class Guide:
    """The guided attention's loss, of the queries of the last pass."""

    def __init__(self, network: RagESM):
        self.network, self.queries = network, {}
        for layer, block in network.cross.items():
            block.query.register_forward_hook(
                lambda _, __, queries, layer=int(layer): self.queries.update({layer: queries})
            )

    def loss(self, context: Context, where: Sequence[np.ndarray]) -> torch.Tensor:
        """Summed over the layers, mean over residues with a partner; a layer's attention is the mean of its heads."""
        T = next(iter(self.queries.values())).shape[1]
        partner = torch.full((len(where), T), -1)
        for row, places in zip(partner, where):
            row[1 : len(places) + 1] = torch.from_numpy(np.where(places >= 0, places + 1, -1))
        nats = []
        for layer, queries in self.queries.items():
            heads = queries.unflatten(-1, (self.network.esm.shape.heads, -1)).transpose(1, 2)
            scores = heads @ context.keys[layer].transpose(-1, -2) * heads.shape[-1] ** -0.5
            paid = (scores if context.hidden is None else scores + context.hidden).softmax(-1).mean(1)
            paid = paid.gather(2, partner.clamp(min=0)[..., None])[..., 0]
            nats.append(-(paid[partner >= 0] + 1e-6).log().mean())
        return torch.stack(nats).sum()


def train(trained: TrainedRagESM, pairs: Pairs, stage: Stage, output: Path) -> None:
    """Adam with 50 steps of warm-up and a linear end; all weights learn."""
    network = trained.network.requires_grad_(True).train()
    for unused in (network.esm.contact_weight, network.esm.contact_bias):
        unused.requires_grad_(False)
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1, (s + 1) / 50) * min(1, (stage.steps - s) / (0.4 * stage.steps))
    )
    guide, rng, losses = Guide(network), np.random.default_rng(1), []
    for step in range(stage.steps):
        proteins, contexts, where = zip(*(pairs.draw(stage, rng) for _ in range(stage.pairs)))
        tokens, targets = masked(tokens_of(proteins), float(rng.uniform(0.05, 0.95)), rng, corrupt=False)
        hidden = targets != IGNORED
        context = network.encode(tokens_of(contexts)) if network.layers else None
        rows = network(tokens, context)
        loss = cross_entropy(network.logits(rows[hidden]), targets[hidden])
        losses.append(loss.item())
        optimiser.zero_grad()
        (loss + stage.guide * guide.loss(context, where) if network.layers else loss).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        pace.step()
        if (step + 1) % 50 == 0:
            print(f"{output.name} step {step + 1}: loss {np.mean(losses[-50:]):.3f}, {time.process_time():.0f} CPU s")
    save_rag_esm(TrainedRagESM(network, output.name, trained.base, stage._asdict()), output)


def compare(rag: RagESM, plain: dict[str, RagESM], families: Sequence[Cluster], title: str) -> None:
    """Two members of each family, each beside the other member most alike to it."""
    found = validation_pairs(families, Contexts("nearest"), 2 * len(families), LONGEST, LONGEST, seed=1)
    names, proteins, homologs = (list(column) for column in zip(*found))
    report(rag, plain, names, proteins, homologs, title)


def report(rag: RagESM, plain: dict[str, RagESM], names: list, proteins: list, homologs: list, title: str) -> None:
    """Print the losses at each rate and their differences from that with a homolog, with 95 % intervals by whole families."""
    rng = np.random.default_rng(2)
    others = [homologs[rng.choice([j for j, n in enumerate(names) if n != name])] for name in names]
    shuffled = ["".join(rng.permutation(list(homolog))) for homolog in homologs]
    print(f"\n{title}: {len(proteins)} proteins of {len(set(names))} families")
    for rate in RATES:
        losses = {
            "homolog": masked_losses(rag, proteins, homologs, rate),
            "random protein": masked_losses(rag, proteins, others, rate),
            "shuffled homolog": masked_losses(rag, proteins, shuffled, rate),
        } | {name: masked_losses(network, proteins, None, rate) for name, network in plain.items()}
        print(f"masked {rate}: " + ", ".join(f"{n} {np.exp(x.mean()):.3f}" for n, x in losses.items()))
        for name in list(losses)[1:]:
            d = paired_bootstrap(losses[name], losses["homolog"], names)
            print(f"  {name} minus homolog: {d.mean:+.4f} nats ({d.low:+.4f} to {d.high:+.4f})", flush=True)


def compare_simulated(rag: RagESM, plain: dict[str, RagESM], families: Sequence[Cluster]) -> None:
    """The same with simulated relatives of the held-out proteins, half of whose residues were drawn anew."""
    rng, cumulative = np.random.default_rng(4), substitutions()
    names = [c.name for c in families]
    proteins = [c.sequences[0] for c in families]
    relatives = [relative(protein, 0.7, cumulative, rng)[0] for protein in proteins]
    report(rag, plain, names, proteins, relatives, "simulated relatives, about half identical")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("proteins", type=Path)
    arguments.add_argument("output", type=Path)
    asked = arguments.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    families, val, test, pool = split(asked.proteins)
    print(f"{len(families)} families to train on, {len(val)} to choose by, {len(test)} to compare on")
    pairs = Pairs(families, pool)
    final = {}
    for name, layers, longer in (("rag", "2,3", 1), ("plain", "none", 1), ("longer", "none", LONGER)):
        before = None
        for kind, stage in STAGES.items():
            folder = asked.output / f"{name}_{kind}"
            if not folder.exists():
                stage = stage._replace(steps=round(longer * stage.steps))
                train(load_rag_esm(before, "cpu") if before else new_rag_esm(layers=layers), pairs, stage, folder)
            before = folder
        final[name] = load_rag_esm(before, "cpu").network
    plain = {"plain ESM2": final["plain"], f"plain ESM2, {LONGER} × the steps": final["longer"]}
    compare(final["rag"], plain, val, "families that settings were chosen by")
    compare(final["rag"], plain, test, "families held out")
    compare_simulated(final["rag"], plain, test)


if __name__ == "__main__":
    main()
