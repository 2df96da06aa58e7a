"""Train the small ESM2-architecture model that stateshift ships for its demo.

python scripts/train_demo_esm.py --fasta scop40.fasta --fasta human_subset.fasta --output demo_esm.pt
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from esm.model.esm2 import ESM2
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from stateshift.files import sha256, written_beside
from stateshift.proteins.fasta import read_fasta

NAME = "stateshift-demo-esm2"
LAYERS, WIDTH, HEADS = 4, 128, 4
RESIDUES = range(4, 24)  # the twenty amino acids in the ESM alphabet
HELD_OUT_SHARE = 0.02

logger = logging.getLogger("train_demo_esm")


def encoded(paths: list[Path], alphabet) -> list[torch.Tensor]:
    """Every protein's residue tokens (L,), no BOS or EOS."""
    return [
        torch.tensor([alphabet.tok_to_idx[letter] for letter in protein.sequence])
        for path in paths
        for protein in read_fasta(path)
    ]


def batch_of_crops(sequences, chosen, crop: int, alphabet, rng: np.random.Generator) -> torch.Tensor:
    """Tokens (B, crop + 2) of one random crop a protein, with BOS, EOS and padding."""
    tokens = torch.full((len(chosen), crop + 2), alphabet.padding_idx)
    for row, index in enumerate(chosen):
        sequence = sequences[index]
        start = int(rng.integers(0, max(len(sequence) - crop, 0) + 1))
        part = sequence[start : start + crop]
        tokens[row, 0] = alphabet.cls_idx
        tokens[row, 1 : len(part) + 1] = part
        tokens[row, len(part) + 1] = alphabet.eos_idx
    return tokens[:, : int((tokens != alphabet.padding_idx).sum(1).max())]


def masked(tokens: torch.Tensor, alphabet, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's corruption: 15 % of residues are targets; 80 % of them masked, 10 % random, 10 % kept."""
    draw = torch.from_numpy(rng.random(tokens.shape))
    fate = torch.from_numpy(rng.random(tokens.shape))
    random = torch.from_numpy(rng.integers(RESIDUES.start, RESIDUES.stop, tokens.shape))
    targets = (tokens >= RESIDUES.start) & (tokens < RESIDUES.stop) & (draw < 0.15)
    corrupted = torch.where(targets & (fate < 0.8), alphabet.mask_idx, tokens)
    corrupted = torch.where(targets & (fate >= 0.8) & (fate < 0.9), random, corrupted)
    return corrupted, targets


def held_out_batches(sequences, crop: int, alphabet, seed: int) -> list[tuple[torch.Tensor, ...]]:
    """(tokens, masked, targets) of one crop a held-out protein, the same whenever they are asked for.

    Every target is masked here: one that shows its own residue would flatter the model against the
    frequencies of the amino acids.
    """
    rng = np.random.default_rng(seed)
    batches = []
    for start in range(0, len(sequences), 32):
        chosen = range(start, min(start + 32, len(sequences)))
        tokens = batch_of_crops(sequences, chosen, crop, alphabet, rng)
        targets = masked(tokens, alphabet, rng)[1]
        batches.append((tokens, torch.where(targets, alphabet.mask_idx, tokens), targets))
    return batches


def perplexity(model: ESM2, batches) -> float:
    """exp of the mean cross-entropy over the target residues."""
    model.eval()
    loss, count = 0.0, 0
    with torch.no_grad():
        for tokens, corrupted, targets in batches:
            logits = model(corrupted)["logits"][targets]
            loss += float(cross_entropy(logits, tokens[targets], reduction="sum"))
            count += int(targets.sum())
    model.train()
    return math.exp(loss / count)


def unigram_perplexity(training, batches) -> float:
    """The same measure for the amino acid frequencies of the training proteins."""
    counts = torch.bincount(torch.cat(training), minlength=33)[RESIDUES.start : RESIDUES.stop].double()
    log_share = (counts / counts.sum()).log()
    truth = torch.cat([tokens[targets] for tokens, _, targets in batches]) - RESIDUES.start
    return math.exp(-float(log_share[truth].mean()))


def initialised() -> ESM2:
    """fair-esm's class with weights to start from.

    The class itself starts from N(0, 1) embeddings, which are its output weights too, and from layers
    that drown the residues they pass on; here the embeddings are small and the layers start near zero.
    """
    model = ESM2(LAYERS, WIDTH, HEADS, token_dropout=True)
    torch.nn.init.normal_(model.embed_tokens.weight, std=0.1)
    for layer in model.layers:
        for projection in (layer.self_attn.out_proj, layer.fc2):
            torch.nn.init.normal_(projection.weight, std=0.02 / math.sqrt(2 * LAYERS))
    return model


def target_logits(model: ESM2, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The model's logits (targets, 33) for a batch without padding, in less time than its own forward.

    Held-out perplexity is measured through fair-esm's forward: were the two to differ, it would show.
    """
    B, T = tokens.shape
    masks = tokens == model.mask_idx
    scale = (1 - 0.15 * 0.8) / (1 - masks.float().mean(1))
    x = model.embed_tokens(tokens).masked_fill(masks[..., None], 0.0) * scale[:, None, None]
    angles = torch.arange(T)[:, None] * model.layers[0].self_attn.rot_emb.inv_freq.repeat(2)
    cos, sin = angles.cos(), angles.sin()

    def rotated(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)

    for layer in model.layers:
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(x)
        q, k, v = (
            project(normed).view(B, T, HEADS, -1).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        heads = scaled_dot_product_attention(rotated(q), rotated(k), v)
        x = x + attention.out_proj(heads.transpose(1, 2).reshape(B, T, -1))
        x = x + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(x))))
    return model.lm_head(model.emb_layer_norm_after(x[targets]))


def learning_rate(done: float, step: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak; `done` in 0..1."""
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model: ESM2, sequences, batches, args: argparse.Namespace) -> int:
    """Train until the steps or the minutes are over; returns the steps taken.

    Every other batch holds crops of half the length, and proteins shorter than a batch's crop are left
    out of it, so that none is padded.
    """
    rng = np.random.default_rng(args.seed)
    lengths = np.array([len(s) for s in sequences], dtype=float)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    start, step, recent = time.monotonic(), 0, []
    while (done := max(step / args.steps, (time.monotonic() - start) / 60 / args.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, step, args.peak_rate, warmup=100)
        shorter = step % 2 + 1
        crop = args.crop // shorter
        share = lengths * (lengths >= crop)
        chosen = rng.choice(len(sequences), args.batch * shorter, p=share / share.sum())
        tokens = batch_of_crops(sequences, chosen, crop, model.alphabet, rng)
        corrupted, targets = masked(tokens, model.alphabet, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = target_logits(model, corrupted, targets)
        loss = cross_entropy(logits.float(), tokens[targets])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(float(loss.detach()))
        if step % 200 == 0:
            train_now, held_out = math.exp(np.mean(recent)), perplexity(model, batches[:4])
            logger.info("step %d (%.0f %%): train %.2f, held out %.2f", step, 100 * done, train_now, held_out)
            recent = []
    return step


def save(model: ESM2, path: Path) -> None:
    """Write fair-esm's own layout: half precision, rotary frequencies in full, no contact regression."""
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("contact_head"):
            continue
        prefix = "encoder." if name.startswith("lm_head") else "encoder.sentence_encoder."
        state[prefix + name] = (value if name.endswith("inv_freq") else value.half()).clone()
    described = argparse.Namespace(
        encoder_layers=model.num_layers,
        encoder_embed_dim=model.embed_dim,
        encoder_attention_heads=model.attention_heads,
        token_dropout=model.token_dropout,
    )
    with written_beside(path, overwrite=True) as part:
        torch.save({"cfg": {"model": described}, "model": state}, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, action="append", required=True, help="repeatable")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="ends the schedule early")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--peak-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    model = initialised()
    sequences = encoded(args.fasta, model.alphabet)
    order = np.random.default_rng(args.seed).permutation(len(sequences))
    n_held_out = int(len(sequences) * HELD_OUT_SHARE)
    held_out = [sequences[i] for i in order[:n_held_out]]
    training = [sequences[i] for i in order[n_held_out:]]
    batches = held_out_batches(held_out, args.crop, model.alphabet, args.seed)
    unigram, before = unigram_perplexity(training, batches), perplexity(model, batches)
    logger.info("held out: unigram %.2f, before training %.2f", unigram, before)

    start = time.monotonic()
    steps = train(model, training, batches, args)
    save(model, args.output)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    after = perplexity(model, batches)
    logger.info("held out: unigram %.2f, before %.2f, after %.2f", unigram, before, after)
    described = {
        "name": NAME,
        "use": "demo only: far too small and too briefly trained for research; use a published ESM2 model there",
        "architecture": f"ESM2, {LAYERS} layers, width {WIDTH}, {HEADS} heads",
        "parameters": sum(p.numel() for n, p in model.named_parameters() if not n.startswith("contact_head")),
        "data": [{"fasta": path.name, "sha256": sha256(path)} for path in args.fasta],
        "training_proteins": len(training),
        "held_out_proteins": n_held_out,
        "held_out_choice": "at random: relatives of a held-out protein may be among the training proteins",
        "held_out_measure": "15 % of the residues of one crop a protein masked, all of them shown as the mask",
        "held_out_perplexity": round(after, 3),
        "held_out_perplexity_before_training": round(before, 3),
        "held_out_perplexity_of_amino_acid_frequencies": round(unigram, 3),
        "steps": steps,
        "batch": args.batch,
        "crop": f"{args.crop} and {args.crop // 2} residues",
        "peak_rate": args.peak_rate,
        "seed": args.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "sha256": sha256(args.output),
    }
    with written_beside(args.output.with_suffix(".json"), overwrite=True) as part:
        part.write_text(json.dumps(described, indent=2) + "\n")


if __name__ == "__main__":
    main()
