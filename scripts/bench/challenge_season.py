"""A season of the challenge, simulated: `model=challenge` beside every baseline, and what each of its parts brings.

    python scripts/bench/challenge_season.py FOLDER --season 2025 --seed 0
    python scripts/bench/challenge_season.py FOLDER --season 2026 --seed 0
2025: 300 targets of H1, 150 / 50 / 100 for training, validation and test, at the real numbers of cells (log-normal, as
those of the 50 published: median 975, sd 0.67 of the log) and 38,176 controls, beside four lines that measured 80 % or 35 %
of 500 targets with 100 cells each. 2026: the four lines alone, and two contexts of which there are controls (18,400) and
held-out cells (400 a target): one validates, one tests. A target's effect is simulated (`stateshift data simulate`); lines
answer its programs with strengths of their own (mean 0.7, sd 0.6); features tell 40 % of the variance of what targets
do, half of that in each of two sources, one of them noisy, beside a third source of noise. Everything is chosen on
validation targets; the test split is scored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from stateshift.cli.main import call

if TYPE_CHECKING:
    from stateshift.cells import EffectTable
    from stateshift.cells.simulate.population import Population
    from stateshift.challenge.local import HeldOutContext
    from stateshift.effects.stack import Stack
    from stateshift.feature_table import FeatureTable
    from stateshift.prediction.effects import PredictedEffects

DEPTHS = {
    "H1": 54_000,
    "K562": 12_000,
    "RPE1": 10_000,
    "Jurkat": 9_000,
    "HepG2": 8_000,
    "new_1": 30_000,
    "new_2": 30_000,
}
MEASURED = {"K562": 0.8, "RPE1": 0.35, "Jurkat": 0.35, "HepG2": 0.35}
TARGETS, IN_SEASON, SIZE, STRENGTH = 500, 300, 0.35, (0.7, 0.6)
AMPLITUDES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
RIVALS = ("additive", "transfer")
"""Baselines that get an amplitude of their own too: those that know other contexts' answers to the same targets."""


def main(
    folder: Annotated[Path, typer.Argument(help="For cells, the run and tables; what is there is used again.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides of the training.")] = None,
    season: Annotated[str, typer.Option(help="2025 or 2026.")] = "2025",
    seed: Annotated[int, typer.Option(help="Of everything simulated and drawn.")] = 0,
    genes: Annotated[int, typer.Option(help="Genes measured; the seasons have 18,080 and 18,533.")] = 1_000,
    scored: Annotated[int, typer.Option(help="2026: targets measured in each new context.")] = 300,
) -> None:
    """Print Markdown tables: the test targets by every prediction, and the recipe without its parts."""
    from stateshift.cells import EffectTable
    from stateshift.challenge.local import OTHERS
    from stateshift.prediction.effects import predict_effects
    from stateshift.prediction.prepared import Asked
    from stateshift.run import open_run
    from stateshift.training import train

    folder = folder / f"{season}_{seed}"
    toml = folder / "season.toml"
    if not toml.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        simulate(folder, season, seed, genes, scored)
    if not (folder / "run").is_dir():
        train(toml, ["model=challenge", *(overrides or [])], output_dir=folder, name="run")
    run = folder / "run"
    known, splits = EffectTable.load(run / "effects.npz"), open_run(run).splits()
    said, contexts = {}, {split: next(iter(splits[split])) for split in ("val", "test")}
    for context in dict.fromkeys(contexts.values()):
        asked = sorted({t for split, of in splits.items() if split != "train" for t in of.get(context, [])})
        cells = folder / f"{context}.h5ad"
        wanted = Asked(cells, perturb=asked, contexts=[context], n_cells=512, baselines=False)
        said[context] = predict_effects(run, wanted, OTHERS if context == contexts["test"] else RIVALS)
    there = context_of(folder, contexts["val"], sorted(splits["val"][contexts["val"]]), season)
    known_there = said[there.name]
    every = {"challenge": known_there.values, **{name: known_there.beside[name] for name in RIVALS}}
    amplitudes = {name: chosen(there, name, known_there, values, known) for name, values in every.items()}
    here = context_of(folder, contexts["test"], sorted(splits["test"][contexts["test"]]), season)
    print_table(here, rows_of(here, said[here.name], known, amplitudes, run, seed))


def context_of(folder: Path, context: str, targets: list[str], season: str) -> HeldOutContext:
    """The measured cells of held-out targets, ready to be scored against."""
    from stateshift.cells.experiment import read_experiment
    from stateshift.cells.survey import survey_files
    from stateshift.challenge.local import held_out_context

    survey = survey_files(read_experiment(folder / "season.toml"))
    file = next(file for file in survey.files if file.path.stem == context)
    return held_out_context(file, context, targets, survey.genes, season)


def chosen(here: HeldOutContext, name: str, said: PredictedEffects, values: np.ndarray, known: EffectTable) -> float:
    """The amplitude of the best score on validation targets."""
    match, scores = here.match(known, known.genes), {}
    for a in AMPLITUDES:
        scores[a] = here.score(here.emitted(effects_of(said, a * values), match, 0)).score
        typer.echo(f"validation, {name}, amplitude {a:g}: {scores[a]:.4f}")
    return max(scores, key=scores.get)


def effects_of(said: PredictedEffects, values: np.ndarray) -> dict[str, np.ndarray]:
    """Target → effect."""
    return {target: np.float32(effect) for (_, target), effect in zip(said.pairs, values)}


def rows_of(
    here: HeldOutContext,
    said: PredictedEffects,
    known: EffectTable,
    amplitudes: dict[str, float],
    run: Path,
    seed: int,
) -> Iterator[tuple[str, object]]:
    """Every prediction of the test targets and its score: the recipe, the recipe without its parts, the baselines."""
    from stateshift.effects.stack import fit_stack
    from stateshift.effects.stack.members import parts_of
    from stateshift.feature_table import FeatureTable

    amplitude = amplitudes["challenge"]
    match, recipe = here.match(known, said.genes), effects_of(said, amplitude * said.values)
    yield f"`challenge`, × {amplitude:g}", here.score(here.emitted(recipe, match, 0))
    if amplitude != 1:
        yield "– amplitude not calibrated", here.score(here.emitted(effects_of(said, said.values), match, 0))
    yield "– significance not matched", here.score(here.emitted(recipe, None, 0))
    for name, cells in otherwise(here, recipe):
        yield f"– {name}", here.score(cells)
    features = FeatureTable.load(run / "features.pt")
    for name, stack in (
        ("one source of features", fit_stack(known, next(iter(parts_of(features).values())), seed)),
        ("without the context's own map", without_map(known, features, seed)),
    ):
        values = stack.predict([target for _, target in said.pairs], [here.name] * len(said.pairs))
        yield f"– {name}", here.score(here.emitted(effects_of(said, amplitude * values), match, 0))
    for name, values in said.beside.items():
        yield name, here.score(here.emitted(effects_of(said, values), match, 0))
    for name in RIVALS:
        values = amplitudes[name] * said.beside[name]
        yield f"{name}, × {amplitudes[name]:g}", here.score(here.emitted(effects_of(said, values), match, 0))
    yield "the measured effects, emitted", here.score(here.emitted(dict(zip(here.names, true_effects(here))), None, 0))


def simulate(folder: Path, season: str, seed: int, genes: int, scored: int) -> None:
    """The season's files, its fused features and its TOML."""
    import toml

    rng = np.random.default_rng([seed, 7])
    population = season_population(genes, seed)
    drawn = rng.permutation(TARGETS)[:IN_SEASON]
    lines = ["H1", *MEASURED] if season == "2025" else [*MEASURED, "new_1", "new_2"]
    for line in lines:
        if line == "H1":
            who, n = drawn, np.maximum(100, np.exp(np.log(975) + 0.67 * rng.standard_normal(IN_SEASON))).astype(int)
        elif line in MEASURED:
            who = rng.permutation(TARGETS)[: int(MEASURED[line] * TARGETS)]
            n = np.maximum(25, np.exp(np.log(90) + 0.5 * rng.standard_normal(len(who)))).astype(int)
        else:
            who, n = drawn[:scored], np.full(min(scored, IN_SEASON), 400)
        controls = {"H1": 38_176, "new_1": 18_400, "new_2": 18_400}.get(line, 8_000)
        write_line(folder / f"{line}.h5ad", population, line, np.r_[who, -1], np.r_[n, controls], seed)
    fused_features(population, np.random.default_rng([seed, 9])).save(folder / "fused.pt")
    named = population.targets[drawn].tolist()
    held = {"zeroshot": {"season.new_1": "val", "season.new_2": "test"}, "fewshot": {}}
    if season == "2025":
        held = {"zeroshot": {}, "fewshot": {"season.H1": {"val": named[150:200], "test": named[200:]}}}
    content = {"datasets": {"season": f"{{{','.join(lines)}}}.h5ad"}, "training": {"season": "train"}, **held}
    (folder / "season.toml").write_text(toml.dumps(content | {"features": {"table": "fused.pt"}}))


def season_population(genes: int, seed: int) -> Population:
    """Lines of their own depths (two batches each), whose answers to a target's programs differ in strength."""
    from stateshift.cells.simulate.population import draw_population, with_hidden_activity

    rng, n = np.random.default_rng([seed, 1]), len(DEPTHS)
    drawn = draw_population(n, TARGETS, genes, 2 * n, 1.0, 0.25, rng)
    drawn = with_hidden_activity(drawn, 0.4, np.random.default_rng([seed, 5]))
    depths = np.repeat([depth * genes / 18_080 for depth in DEPTHS.values()], 2)
    parts = {name: SIZE * getattr(drawn, name) for name in ("common", "weights", "hidden")}
    return replace(
        drawn,
        contexts=np.array(list(DEPTHS)),
        depth=depths * np.exp(0.1 * rng.standard_normal(2 * n)),
        strength=(STRENGTH[0] + STRENGTH[1] * rng.standard_normal(drawn.strength.shape)).astype(np.float32),
        specific=drawn.specific * np.float32(SIZE),
        **parts,
    )


def write_line(path: Path, population: Population, line: str, who: np.ndarray, n: np.ndarray, seed: int) -> None:
    """One line's cells, counts: so many of each target, −1 the controls."""
    import pandas as pd

    from stateshift.cells.matrix.stream import CellStream
    from stateshift.cells.simulate.experiment import draw_cells
    from stateshift.cells.simulate.layout import Layout

    number = list(DEPTHS).index(line)
    target = np.repeat(who, n)
    batch = 2 * number + np.random.default_rng([seed, 8, number]).integers(2, size=len(target))
    names = np.append(population.targets, "non-targeting")
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical.from_codes(target % len(names), names),
            "cell_type": pd.Categorical([line] * len(target)),
            "batch": pd.Categorical(population.batches[batch]),
        },
        index=[f"{line}_{i}" for i in range(len(target))],
    )
    uns = {"stateshift": {"simulated": True, "scale": "counts", "control": "non-targeting"}}
    with CellStream(path, obs, pd.DataFrame(index=population.genes), uns) as stream:
        layout = Layout(np.full(len(target), number), target, batch)
        for block in draw_cells(population, layout, 100 * seed + number):
            stream.append(block)


def fused_features(population: Population, rng: np.random.Generator) -> FeatureTable:
    """Half of the features with noise, the other half, and nothing but noise, as three sources of one table."""
    from stateshift.feature_table import FeatureTable

    X = population.features
    half, spread = X.shape[1] // 2, X.std()
    parts = {
        "esm2": X[:, :half] + 0.5 * spread * rng.standard_normal((len(X), half)),
        "network": X[:, half:],
        "symbol": spread * rng.standard_normal(X.shape),
    }
    ends = np.cumsum([0, *(part.shape[1] for part in parts.values())]).tolist()
    about = [{"source": name, "columns": ends[i : i + 2]} for i, name in enumerate(parts)]
    vectors = np.hstack(list(parts.values())).astype(np.float32)
    return FeatureTable(population.targets.tolist(), vectors, {"source": "fusion", "parts": about, "missing": {}})


def print_table(here: HeldOutContext, rows: Iterator[tuple[str, object]]) -> None:
    """Every prediction: score, members with their scores, and the first one's lead over resampled targets."""
    from stateshift.challenge.local.resampled import difference

    first = None
    for name, score in rows:
        members = score.members
        if first is None:
            first = score
            heads = " | ".join(members.index)
            typer.echo(f"\n| prediction | score | {heads} | first − it |\n|---|---|{'---|' * (len(members) + 1)}")
        parts = " | ".join(f"{row['value']:.3f} ({row['score']:.2f})" for _, row in members.iterrows())
        low, high = difference({here.name: first}, {here.name: score})
        ahead = "" if score is first else f"{first.score - score.score:+.3f} [{low:+.3f}, {high:+.3f}]"
        typer.echo(f"| {name} | {score.score:.3f} | {parts} | {ahead} |")


def without_map(known: EffectTable, features: FeatureTable, seed: int) -> Stack:
    """The stack without `MappedTransfer` among its members."""
    from stateshift.effects.stack import fit

    every = fit.members_of
    fit.members_of = lambda *given: {name: member for name, member in every(*given).items() if name != "mapped"}
    try:
        return fit.fit_stack(known, features, seed)
    finally:
        fit.members_of = every


def true_effects(here: HeldOutContext) -> np.ndarray:
    """What was measured, (P, G) on log1p_1e4, for emission to show: what the emitted cells themselves lose."""
    from stateshift.challenge.local.context import log1p_of

    def mean(name: str) -> np.ndarray:
        return np.asarray(log1p_of(here.groups(name), 1e4).mean(axis=0)).ravel()

    control = mean("non-targeting")
    return np.stack([mean(name) - control for name in here.names])


def otherwise(here: HeldOutContext, effects: dict[str, np.ndarray]) -> Iterator[tuple[str, Callable]]:
    """Cells made without emission: moved on log1p_1e4 and rounded to counts; control cells drawn anew."""
    from scipy.sparse import csr_matrix

    from stateshift.challenge.local.context import log1p_of

    def rounded(name: str) -> csr_matrix:
        cells = here.emitter.counts[here.emitter.rows(here.groups.count(name), seed=0, target=name)]
        depths = np.asarray(cells.sum(axis=1)).ravel() / 1e4
        moved = np.maximum(log1p_of(cells, 1e4).toarray() + effects[name], 0)
        return csr_matrix(np.rint(np.expm1(moved) * depths[:, None]).astype(np.float32))

    def resampled(name: str) -> csr_matrix:
        return here.emitter.counts[here.emitter.rows(here.groups.count(name), seed=0, target=name)]

    yield "moved on log1p and rounded", rounded
    yield "control cells drawn again", resampled


if __name__ == "__main__":
    call(lambda: typer.run(main))
