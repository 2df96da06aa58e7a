"""A sampling run: a model, masked proteins and homologs in; generated proteins and everything about them out."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stateshift import __version__
from stateshift.errors import StateshiftError, enough_memory, some
from stateshift.files import written_beside
from stateshift.progress import track
from stateshift.rag_esm.model.checkpoint import load_rag_esm
from stateshift.rag_esm.model.network import Context, RagESM
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.rag_esm.sampling.denoise import Denoised, denoise
from stateshift.rag_esm.sampling.inputs import Request, read_requests
from stateshift.rag_esm.sampling.perplexity import pseudo_perplexity
from stateshift.rag_esm.sampling.settings import SamplingSettings
from stateshift.surroundings import left_alone

logger = logging.getLogger(__name__)

GENERATED, CONTEXTS, STEPS, TABLE, ENTROPY, ABOUT = (
    "generated.fasta", "contexts.fasta", "steps.fasta", "samples.csv", "entropy.csv", "about.json",
)  # fmt: skip


@left_alone()
def sample(
    checkpoint: str | Path,
    output: str | Path,
    *,
    context: str | Path,
    masked: str | Path | None = None,
    fixed_length: int | None = None,
    settings: SamplingSettings | None = None,
    max_context: int = 1024,
    batch_size: int = 32,
    save_intermediate_steps: bool = False,
    compute_perplexities: bool = False,
    device: str | None = None,
) -> Path:
    """Generate proteins into a new folder.

    Parameters
    ----------
    checkpoint
        See `load_rag_esm`.
    output
        The folder: ``generated.fasta``, ``contexts.fasta``, ``samples.csv`` (a row a protein: context, length,
        generated residues, perplexities), ``entropy.csv`` (by iteration), ``about.json`` (every setting) and, where
        asked for, ``steps.fasta`` (``>name step=12``, ``-`` where still masked).
    context, masked, fixed_length, max_context
        See `read_requests`.
    settings
        See `SamplingSettings`.
    batch_size
        Proteins at once, those of like length together.
    save_intermediate_steps
        Whether every iteration is kept.
    compute_perplexities
        Whether the pseudo-perplexity of the generated residues is told, by RAG-ESM with the context and by ESM2.
    device
        As torch names it; by default the GPU where there is one.

    Raises
    ------
    StateshiftError
        Inputs can't be used, or the output exists.
    """
    settings = settings or SamplingSettings()
    if batch_size < 1:
        raise StateshiftError(f"--batch-size must be 1 or more, not {batch_size}.")
    requests = read_requests(context, masked, fixed_length, max_context)
    if Path(output).exists():
        raise StateshiftError(f"{output} exists already: choose another folder with --output.")
    _tell_uncorrected(requests, settings)
    trained = load_rag_esm(checkpoint, device)
    with enough_memory(f"give --batch-size {max(1, batch_size // 2)}"):
        made = generate(trained.network, requests, settings, batch_size, save_intermediate_steps)
    rows = [_row(request, one) for request, one in zip(requests, made)]
    if compute_perplexities:
        for row, request, one in track(list(zip(rows, requests, made)), "Perplexities", total=len(rows)):
            row |= _perplexities(trained.network, request, one)
    about = {
        "checkpoint": trained.name, "checkpoint_sha256": trained.sha256, "base": trained.base,
        "input": Path(masked).name if masked else None, "context": Path(context).name, "fixed_length": fixed_length,
        "max_context": max_context, "batch_size": batch_size, "settings": asdict(settings), "stateshift": __version__,
    }  # fmt: skip
    with written_beside(output) as part:
        part.mkdir()
        _write(part, requests, made, rows, about, save_intermediate_steps)
    return Path(output)


def generate(
    network: RagESM,
    requests: Sequence[Request],
    settings: SamplingSettings,
    batch_size: int = 32,
    keep_steps: bool = False,
) -> list[Denoised]:
    """One `Denoised` a request, in their order; each context is encoded once."""
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].masked))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    made: list[Denoised] = [Denoised([], [])] * len(requests)
    for numbers in track(batches, "Sampling", total=len(batches)):
        some_requests = [requests[i] for i in numbers]
        context = encoded(network, [r.context for r in some_requests])
        found = denoise(
            network, [r.masked for r in some_requests], context, settings, numbers=numbers, keep_steps=keep_steps
        )
        for row, i in enumerate(numbers):
            made[i] = found.one(row)
    return made


def encoded(network: RagESM, contexts: Sequence[str]) -> Context | None:
    """Contexts ready to read; one for all where they are the same."""
    if not network.layers:
        return None
    import torch

    distinct = list(dict.fromkeys(contexts))
    with torch.inference_mode():
        read = network.encode(tokens_of(distinct).to(network.esm.embedding.device))
    return read if len(distinct) == 1 else read.rows(torch.tensor([distinct.index(c) for c in contexts]))


def _tell_uncorrected(requests: Sequence[Request], settings: SamplingSettings) -> None:
    """Warn of proteins that are whole, and done with, before errors would be corrected."""
    if settings.error_correction == "none" or settings.mask_probability:
        return
    start = settings.start_error_correction
    never = [r.name for r in requests if min(r.masked.count("-"), settings.iterations) <= start]
    if never:
        logger.warning(
            "Errors are corrected from iteration %d on, when %d of %d proteins are whole already: %s.",
            start + 1, len(never), len(requests), some(never, 5),
        )  # fmt: skip


def _row(request: Request, made: Denoised) -> dict[str, object]:
    return {
        "id": request.name,
        "context": request.context_name,
        "length": len(made.sequences[0]),
        "generated": int(made.generated[0].sum()),
    }


def _perplexities(network: RagESM, request: Request, made: Denoised) -> dict[str, float]:
    sequence, places = made.sequences[0], made.generated[0]
    found = {
        "perplexity_rag_esm": pseudo_perplexity(network, sequence, places, encoded(network, [request.context])),
        "perplexity_esm2": pseudo_perplexity(network, sequence, places),
    }
    return {name: round(value, 4) for name, value in found.items()}


def _write(
    folder: Path, requests: Sequence[Request], made: Sequence[Denoised], rows: list[dict], about: dict, steps: bool
) -> None:
    generated = [f">{r.name} context={r.context_name}\n{m.sequences[0]}\n" for r, m in zip(requests, made)]
    (folder / GENERATED).write_text("".join(generated))
    (folder / CONTEXTS).write_text("".join(f">{r.context_name}\n{r.context}\n" for r in requests))
    if steps:
        frames = [
            f">{r.name} step={number}\n{frame[0]}\n"
            for r, m in zip(requests, made)
            for number, frame in enumerate(m.steps)
        ]
        (folder / STEPS).write_text("".join(frames))
    with (folder / TABLE).open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    longest = max(len(m.entropy) for m in made)
    by_step = np.full((len(made), longest), np.nan)
    for row, m in zip(by_step, made):
        row[: len(m.entropy)] = np.concatenate(m.entropy) if m.entropy else []
    with (folder / ENTROPY).open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["iteration", "mean_entropy_nats", "proteins"])
        for number, column in enumerate(by_step.T, start=1):
            there = column[np.isfinite(column)]
            writer.writerow([number, f"{there.mean():.5f}", len(there)])
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
