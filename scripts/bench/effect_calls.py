"""Published calls of two screens (K562, RPE1): which genes change, and in which direction, for unseen targets.

    python scripts/bench/effect_calls.py CALLS --target-features t.pt --response-features g.pt --noise n.pt --inner
    python scripts/bench/effect_calls.py CALLS --target-features t.pt --response-features g.pt --noise n.pt

CALLS is a folder of k562-de.csv, k562-dir.csv, rpe1-de.csv and rpe1-dir.csv (pert, gene, label, split). The features:

    stateshift features create --source gene_sets --lookup go.gmt --gene-list genes.txt --missing drop -o go.pt
    stateshift features create --source symbol --gene-list genes.txt --missing drop -o symbols.pt
    stateshift features fuse go.pt symbols.pt --weights 4,1 -o t.pt
    stateshift features fuse go.pt symbols.pt --weights 3,2 -o g.pt
    stateshift features create --source random --gene-list genes.txt -o random.pt
    stateshift features fuse go.pt symbols.pt random.pt --weights 4,1,2.5 -o n.pt

with every target and response gene in genes.txt. "own line" is fitted on the line's training rows; "both lines" adds
the other line's training rows, without the targets that are tested. A pair is scored by itself; AUC per response gene,
averaged over the genes with both labels; intervals resample targets. The first command holds out parts of the training
targets in the same way and reads no test row: all that was chosen was chosen by it. "near" and "far" are the halves
of the tested targets by their similarity to the nearest training target; "with noise" has 512 random columns
fused in, at the weight of all others' half.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

LINES, TASKS = ("k562", "rpe1"), ("de", "dir")
OWN = ("strength", "neighbours", "smoother", "bilinear")
BOTH = (*OWN, "transfer")
FOLDS = 6


def main(
    calls: Annotated[Path, typer.Argument(help="The folder of the four tables.")],
    target_features: Annotated[Path, typer.Option(help="A feature table of the targets.")],
    response_features: Annotated[Path, typer.Option(help="A feature table of the response genes.")],
    noise: Annotated[Path, typer.Option(help="Target features with a random source fused in.")],
    inner: Annotated[
        bool, typer.Option("--inner", help="Hold out training targets; the test split is not read.")
    ] = False,
    folds: Annotated[int, typer.Option(help="Of the inner folds, how many are run.")] = FOLDS,
    task: Annotated[list[str] | None, typer.Option(help="de or dir; default both.")] = None,
    only_own: Annotated[bool, typer.Option("--only-own", help="Leave the other line out.")] = False,
) -> None:
    """Print one Markdown table."""
    from stateshift.feature_table import FeatureTable

    features, responses, noisy = map(FeatureTable.load, (target_features, response_features, noise))
    print("| task | line | rows | model | AUC per gene | 95 % | − neighbours |\n|---|---|---|---|---|---|---|")
    for of_task in task or TASKS:
        for line in LINES:
            for across in (False,) if only_own else (False, True):
                start = time.perf_counter()
                runs = [
                    scored(rows, asked, features, responses, BOTH if across else OWN)
                    | ({} if across else only_stack(rows, asked, noisy, responses))
                    for rows, asked in (
                        inner_folds(calls, line, of_task, across)[:folds]
                        if inner
                        else [test_split(calls, line, of_task, across)]
                    )
                ]
                for name in runs[0]:
                    print(
                        f"| {of_task} | {line} | {'both lines' if across else 'own line'} | {name} | {told(runs, name)} |",
                        flush=True,
                    )
                print(f"<!-- {time.perf_counter() - start:.0f} s -->", flush=True)


def told(runs: list[dict], name: str) -> str:
    """Mean score, interval and difference from the nearest neighbours; an interval of one run alone."""
    import numpy as np

    from stateshift.effects.calls.score import difference, resampled

    if len(runs) > 1:
        scores = [run[name].mean() for run in runs]
        less = float(np.mean([run[name].mean() - run["neighbours"].mean() for run in runs]))
        return f"{np.mean(scores):.4f} | {min(scores):.3f} … {max(scores):.3f} | {less:+.4f}"
    pairs = runs[0][name]
    low, high = np.nanpercentile(resampled(pairs, pairs)[0], [2.5, 97.5])
    if "targets" in name:
        return f"{pairs.mean():.4f} | {low:.3f} … {high:.3f} | "
    gain, least, most = difference(pairs, runs[0]["neighbours"].predicted)
    return f"{pairs.mean():.4f} | {low:.3f} … {high:.3f} | {gain:+.4f} [{least:+.4f}, {most:+.4f}]"


def scored(train, asked, features, responses, names) -> dict:
    """Name → pairs with the predictions of each member, of their stack, and of the stack without the other line."""
    import numpy as np

    from stateshift.effects.calls.score import Pairs
    from stateshift.effects.calls.stack import fit_stack

    stack = fit_stack(train, features, responses, names, True, "T")
    place = {gene: i for i, gene in enumerate(train.genes)}
    p, g = asked.measured.nonzero()
    known = [gene in place for gene in asked.genes]
    column = [place.get(gene, 0) for gene in asked.genes]

    def pairs(values) -> Pairs:
        # a gene that no training row measures is at the same score for every target
        values = values[:, column] * known
        return Pairs(values[p, g], asked.effects[p, g], p, g, True)

    near = nearness(stack, asked.perturbations)
    halves = {"near": near > np.median(near), "far": near <= np.median(near)}
    results = {n: pairs(m.scores(asked.perturbations, asked.contexts)) for n, m in stack.members.items()}
    whole = pairs(stack.predict(asked.perturbations, asked.contexts))
    parts = {
        f"stack, {name} targets": Pairs(*(a[half[p]] for a in (whole.predicted, whole.truth, p, g)), True)
        for name, half in halves.items()
    }
    return results | {"stack": whole} | parts


def only_stack(train, asked, features, responses) -> dict:
    return {"stack with noise": scored(train, asked, features, responses, OWN)["stack"]}


def nearness(stack, perturbations):
    """Similarity of each perturbation to the nearest training target."""
    from stateshift.effects.calls.members.similarity import similarities

    rows = stack.members["neighbours"].rows
    return similarities(rows.points(perturbations), rows.targets).max(axis=1)


def rows_of(calls: Path, line: str, task: str, across: bool):
    """Training rows and test rows, the other line's training rows without tested targets among the first."""
    from stateshift.effects.calls.read import Calls, read_calls, training_rows
    from stateshift.genes import GeneNames

    own = read_calls(calls / f"{line}-{task}.csv", in_context=line)
    train, asked = own.part("train"), own.part("test")
    if across:
        other = next(name for name in LINES if name != line)
        more = read_calls(calls / f"{other}-{task}.csv", in_context=other).part("train")
        joined = joined_rows([own.effects, more])
        import numpy as np

        split = np.concatenate([own.split, np.full(len(more), "train")])
        train, _ = training_rows(Calls(joined, True, split), "T", GeneNames())
    return train, asked


def test_split(calls: Path, line: str, task: str, across: bool):
    return rows_of(calls, line, task, across)


def inner_folds(calls: Path, line: str, task: str, across: bool):
    """Training rows less a part of the line's training targets, and that part's rows."""
    import numpy as np

    train, _ = rows_of(calls, line, task, across)
    own = np.array(train.contexts) == line
    targets = np.array(train.perturbations)
    names = np.unique(targets[own])
    part = np.random.default_rng(0).permutation(len(names)) % FOLDS
    folds = []
    for k in range(FOLDS):
        held = np.isin(targets, names[part == k])
        fit, asked = train.rows(~held), train.rows(held & own)
        folds.append(tuple(t.columns(t.measured.any(axis=0)) for t in (fit, asked)))
    return folds


def joined_rows(tables):
    """Tables of other genes and contexts under each other."""
    import numpy as np

    genes = list(dict.fromkeys(gene for table in tables for gene in table.genes))
    place = {gene: i for i, gene in enumerate(genes)}
    effects = np.full((sum(map(len, tables)), len(genes)), np.nan, dtype=np.float32)
    start = 0
    for table in tables:
        effects[start : start + len(table), [place[g] for g in table.genes]] = table.effects
        start += len(table)
    return dataclasses.replace(
        tables[0],
        genes=genes,
        perturbations=[p for t in tables for p in t.perturbations],
        contexts=[c for t in tables for c in t.contexts],
        effects=effects,
    )


if __name__ == "__main__":
    typer.run(main)
