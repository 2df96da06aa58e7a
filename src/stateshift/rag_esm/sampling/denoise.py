"""Masked proteins filled in step by step.

Letters of shapes: B proteins, T tokens, A letters that may be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from stateshift.rag_esm.model.network import Context, RagESM
from stateshift.rag_esm.model.tokens import AMINO_ACIDS, BOS, EOS, MASK, PAD, UNK, letters_of, tokens_of
from stateshift.rag_esm.sampling.settings import SamplingSettings


@dataclass
class Denoised:
    """What denoising made of B proteins.

    Parameters
    ----------
    sequences
        Whole.
    generated
        (L,) bool each: residues that were masked.
    steps
        Every iteration's sequences with ``-`` for what is still masked; the input first, and of `one` protein up to
        the first that is whole.
    entropy
        (B,) an iteration: mean entropy in nats of what is predicted for masked residues, NaN where none is left.
    """

    sequences: list[str]
    generated: list[np.ndarray]
    steps: list[list[str]] = field(default_factory=list)
    entropy: list[np.ndarray] = field(default_factory=list)

    def one(self, row: int) -> Denoised:
        """What became of one protein."""
        frames = [step[row] for step in self.steps]
        whole = next((i for i, frame in enumerate(frames) if "-" not in frame), len(frames))
        steps, entropy = [[f] for f in frames[: whole + 1]], [values[row : row + 1] for values in self.entropy]
        return Denoised([self.sequences[row]], [self.generated[row]], steps, entropy)


def filtered(logits: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Chances (…, A) to draw by, of logits (…, A): top-k, top-p, min-p, then temperature.

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> filtered(logits, SamplingSettings(top_p=0.6)).tolist()
    [0.625, 0.375, 0.0]
    """
    kept = logits.clone()
    if settings.top_k and settings.top_k < kept.shape[-1]:
        least = kept.topk(settings.top_k).values[..., -1:]
        kept = kept.masked_fill(kept < least, -torch.inf)
    if settings.top_p < 1:
        chances, order = kept.softmax(-1).sort(descending=True)
        # one is left out when those before it reach p already
        late = chances.cumsum(-1) - chances >= settings.top_p
        kept = kept.masked_fill(torch.zeros_like(late).scatter(-1, order, late), -torch.inf)
    if settings.min_p > 0:
        chances = kept.softmax(-1)
        kept = kept.masked_fill(chances < settings.min_p * chances.amax(-1, keepdim=True), -torch.inf)
    if settings.top_k == 1:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    return (kept / settings.temperature).softmax(-1)


def schedule(masked: int, iterations: int) -> list[int]:
    """Residues filled in by each iteration.

    Examples
    --------
    >>> schedule(10, 4), schedule(2, 5)
    ([3, 3, 2, 2], [1, 1, 0, 0, 0])
    """
    each, more = divmod(masked, iterations)
    return [each + (i < more) for i in range(iterations)]


def denoise(
    network: RagESM,
    inputs: Sequence[str],
    context: Context | None,
    settings: SamplingSettings,
    *,
    numbers: Sequence[int] | None = None,
    keep_steps: bool = False,
) -> Denoised:
    """Fill in what is masked.

    Parameters
    ----------
    network
        The model.
    inputs
        B sequences with ``-`` for masked residues.
    context
        What the network's `encode` made of their homologs, once; None reads none.
    settings
        See `SamplingSettings`.
    numbers
        Their places in the whole input, for their seeds; 0 to B − 1 if left out.
    keep_steps
        Whether to keep every iteration's sequences.
    """
    device = network.esm.embedding.device
    draws = [np.random.default_rng([settings.seed, i]) for i in (range(len(inputs)) if numbers is None else numbers)]
    tokens, lengths = tokens_of(inputs), [len(sequence) for sequence in inputs]
    if settings.mask_probability:
        hit = _numbers(draws, lengths, tokens.shape[1]) < settings.mask_probability
        tokens = tokens.masked_fill(hit & _residues(tokens), MASK)
    masked = tokens == MASK
    generated = masked.clone()
    # when a residue's turn comes, and the number that decides what it becomes
    turn = _numbers(draws, lengths, tokens.shape[1])
    luck = _numbers(draws, lengths, tokens.shape[1]).float().to(device)
    plan = torch.tensor([schedule(int(n), settings.iterations) for n in masked.sum(1)])
    given = _residues(tokens)
    letters = torch.tensor([*AMINO_ACIDS, *([UNK] if settings.allow_unknown else [])], device=device)
    tokens, masked, generated, given, turn = (x.to(device) for x in (tokens, masked, generated, given, turn))
    made = Denoised([], [], [letters_of(tokens)] if keep_steps else [])
    newest = torch.zeros_like(masked)
    with torch.inference_mode():
        for iteration in range(settings.iterations):
            if not masked.any():
                break
            # the head is read where something may change: a protein that is whole stays as it is
            read = masked
            if settings.error_correction != "none" and iteration >= settings.start_error_correction:
                covered = {"prev-unmasked": newest, "all-masked": generated, "all-residues": given}
                read = masked | (covered[settings.error_correction] & masked.any(1, keepdim=True))
            logits = network.logits(network(tokens, context)[read]).float()[:, letters]
            entropy = torch.zeros(read.shape, device=device)
            entropy[read] = _entropy(logits)
            made.entropy.append(((entropy * masked).sum(1) / masked.sum(1)).cpu().numpy())
            rank = entropy if settings.order == "entropy" else turn
            now = _next(rank, masked, plan[:, iteration].to(device))
            again = read & ~masked
            tokens[again] = letters[logits[again[read]].argmax(-1)]
            chances = filtered(logits[now[read]], settings)
            drawn = (chances.cumsum(-1) <= luck[now][:, None]).sum(-1)
            # rounding may leave the sum under 1
            drawn = torch.minimum(drawn, _last_possible(chances))
            tokens[now] = letters[drawn]
            masked, newest = masked & ~now, now
            if keep_steps:
                made.steps.append(letters_of(tokens))
    made.sequences = letters_of(tokens)
    made.generated = [row[1 : len(s) + 1].cpu().numpy() for row, s in zip(generated, made.sequences)]
    return made


def _numbers(draws: Sequence[np.random.Generator], lengths: Sequence[int], T: int) -> torch.Tensor:
    """(B, T) in [0, 1): each protein draws as many as it is long, whatever the padding."""
    numbers = np.zeros((len(draws), T))
    for row, rng, length in zip(numbers, draws, lengths):
        row[1 : length + 1] = rng.random(length)
    return torch.from_numpy(numbers)


def _residues(tokens: torch.Tensor) -> torch.Tensor:
    """(B, T): all but BOS, EOS and padding."""
    return (tokens != BOS) & (tokens != EOS) & (tokens != PAD)


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """In nats, of logits (…, A)."""
    nats = logits.log_softmax(-1)
    return -(nats.exp() * nats).sum(-1)


def _next(rank: torch.Tensor, masked: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """(B, T): the `count` (B,) masked residues of the lowest rank."""
    place = rank.masked_fill(~masked, torch.inf).argsort(1).argsort(1)
    return masked & (place < count[:, None])


def _last_possible(chances: torch.Tensor) -> torch.Tensor:
    """The last letter of each row that has a chance."""
    numbers = torch.arange(chances.shape[-1], device=chances.device)
    return torch.where(chances > 0, numbers, 0).amax(-1)
