"""How sequences are generated."""

from __future__ import annotations

from dataclasses import dataclass

from stateshift.errors import InputProblems, suggestion

CORRECTIONS = ("none", "prev-unmasked", "all-masked", "all-residues")
ORDERS = ("random", "entropy")


@dataclass(frozen=True)
class SamplingSettings:
    """A denoising run.

    Parameters
    ----------
    iterations
        Steps T that the N masked residues of a protein are filled in over: N // T a step, and one more in each of
        the first N mod T.
    top_k, top_p, min_p
        What may be drawn, one after the other: the k most likely; the most likely that together reach p; those of at
        least so much of the most likely one's chance. 0, 1 and 0 leave everything in.
    temperature
        Divides the logits of what is left. With ``top_k=1`` nothing is left to draw.
    order
        Residues are filled in at ``random``, or where the ``entropy`` of the prediction is lowest.
    error_correction
        From iteration `start_error_correction` on, residues that the model would put otherwise are replaced by the
        likeliest: those filled in the iteration before (``prev-unmasked``), all that were masked (``all-masked``), or
        all (``all-residues``: given ones, motifs too).
    mask_probability
        Chance of each given residue to be masked before it begins.
    allow_unknown
        Whether X may be drawn beside the twenty amino acids.
    seed
        Draws everything. A sequence depends on it and on its place in the input, not on the batch it is in.
    """

    iterations: int = 100
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    temperature: float = 1.0
    order: str = "random"
    error_correction: str = "none"
    start_error_correction: int = 0
    mask_probability: float = 0.0
    allow_unknown: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.iterations < 1:
            problems.append(f"--iterations must be 1 or more, not {self.iterations}.")
        if self.top_k < 0 or self.start_error_correction < 0 or self.seed < 0:
            problems.append("--top-k, --start-error-correction and --seed must be 0 or more.")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            problems.append(f"--top-p must lie in (0, 1] and --min-p in [0, 1], not {self.top_p} and {self.min_p}.")
        if not self.temperature > 0:
            problems.append(f"--temperature must be above 0, not {self.temperature}; --top-k 1 takes the likeliest.")
        if not 0 <= self.mask_probability <= 1:
            problems.append(f"--mask-probability must lie in [0, 1], not {self.mask_probability}.")
        for flag, value, known in (
            ("--order", self.order, ORDERS),
            ("--error-correction", self.error_correction, CORRECTIONS),
        ):
            if value not in known:
                problems.append(f"{flag} `{value}` is unknown{suggestion(value, known)}.")
        if problems:
            raise InputProblems("the sampling's settings", problems)
