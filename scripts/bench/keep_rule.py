"""How often the keep rule of `model=anchored` keeps a network of noise, and one that gains; as in docs/anchored.md.

    python scripts/bench/keep_rule.py
Gains of ten validations over as many pairs as perturbations, of a law with mean 0 and deviation 1; *losses* is a law
turned round, so that a few pairs lose much. The best of the ten is judged. In the second table one deviation is added to
all gains. Alike, nine tenths of the variance are the same in all ten validations, as of a network that hardly changes.
"""

from __future__ import annotations

from typing import Annotated

import typer

VALIDATIONS = 10


def main(
    trainings: Annotated[int, typer.Option(help="Made up for each number.")] = 500,
    perturbations: Annotated[str, typer.Option(help="How many validate.")] = "5,8,12,25,50",
) -> None:
    """Print two Markdown tables: kept without a gain, and kept with one."""
    counts = [int(n) for n in perturbations.split(",")]
    for title, gain in (("no gain", 0.0), ("a gain of one deviation", 1.0)):
        typer.echo(f"\n| {title} | {' | '.join(f'{n}' for n in counts)} |\n|---{'|---' * len(counts)}|")
        for law in ("normal", "exponential gains", "exponential losses", "lognormal gains", "lognormal losses"):
            for shared in (0.0, 0.9):
                kept = [share_kept(law, n, gain, shared, trainings) for n in counts]
                name = f"{law}, validations alike" if shared else law
                typer.echo(f"| {name} | {' | '.join(f'{share:.3f}' for share in kept)} |")


def share_kept(law: str, n: int, gain: float, shared: float, trainings: int) -> float:
    """Share of made-up trainings whose network the rule keeps."""
    import numpy as np

    from stateshift.training.anchored.keeping import verdicts

    rng, kept = np.random.default_rng(0), 0
    for _ in range(trainings):
        noise = np.sqrt(shared) * drawn(rng, law, (1, n)) + np.sqrt(1 - shared) * drawn(rng, law, (VALIDATIONS, n))
        scores = {0: np.zeros(n)} | dict(enumerate(gain + noise, start=1))
        best = max(scores, key=lambda step: scores[step].mean())
        kept += verdicts(scores, [f"P{i}" for i in range(n)], ["T"] * n, best)["T"].kept
    return kept / trainings


def drawn(rng, law: str, shape: tuple[int, int]):
    """Numbers of a law with mean 0 and deviation 1; the lognormal's logarithm has a deviation of 0.5."""
    import numpy as np

    if law == "normal":
        return rng.standard_normal(shape)
    way = -1 if law.endswith("losses") else 1
    if law.startswith("exponential"):
        return way * (rng.exponential(size=shape) - 1)
    mean, square = np.exp(0.5**2 / 2), np.exp(2 * 0.5**2)
    return way * (rng.lognormal(0, 0.5, shape) - mean) / np.sqrt(square - mean**2)


if __name__ == "__main__":
    typer.run(main)
