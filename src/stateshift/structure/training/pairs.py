"""Pairs of chains and how alike they are: from a table, by TM-align, or from classes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.files import read_csv
from stateshift.progress import track
from stateshift.structure.parsing import Chain

INTERVAL = 0.1
SAME_FOLD = 0.5
"""A TM-score from which on two chains mostly share a fold (Xu & Zhang 2010)."""
LEVELS = {"scop": {4: 0.9, 3: 0.7, 2: 0.5}, "cath": {4: 0.7, 3: 0.5}}
"""Similarity by shared leading parts: SCOP's class.fold.superfamily.family, CATH's class.architecture.topology.superfamily."""
UNRELATED = 0.2


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of names and their similarity.

    Parameters
    ----------
    names
        Chains, each once.
    index
        (P, 2) places in `names`.
    similarity
        (P,) float32 in [0, 1].
    """

    names: list[str]
    index: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def among(self, names: set[str]) -> Pairs:
        """The pairs whose two chains are both among some names."""
        there = np.array([name in names for name in self.names])
        kept = there[self.index].all(axis=1)
        return Pairs(self.names, self.index[kept], self.similarity[kept])

    def weights(self) -> np.ndarray:
        """(P,) chances that draw every interval of 0.1 alike often, however many pairs lie in it."""
        interval = np.round(self.similarity / INTERVAL).astype(int)
        return 1.0 / np.bincount(interval)[interval]


def read_pairs(path: str | Path) -> Pairs:
    """Pairs of a table ``a,b,tm`` (csv or tsv, with that header; further columns are passed over).

    Raises
    ------
    StateshiftError
        The file is missing or no table.
    InputProblems
        Columns are missing, scores are no numbers in [0, 1], names are empty.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such table of pairs.")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    table = read_csv(path, sep=separator, dtype={"a": str, "b": str}, keep_default_na=False)
    lacking = [c for c in ("a", "b", "tm") if c not in table]
    if lacking:
        columns = ", ".join(f"`{c}`{suggestion(c, table.columns)}" for c in lacking)
        raise InputProblems(str(path), [f"it has no column {columns}; a table of pairs has the header a,b,tm."])
    scores = pd.to_numeric(table["tm"], errors="coerce").to_numpy(np.float32)
    problems = [
        f"line {i + 2}: the score `{table['tm'][i]}` is no number between 0 and 1."
        for i in np.flatnonzero(~((scores >= 0) & (scores <= 1)))[:20]
    ]
    problems += [
        f"line {i + 2}: a name is empty." for i in np.flatnonzero((table["a"] == "") | (table["b"] == ""))[:20]
    ]
    if not len(table):
        problems.append("it holds no pairs.")
    if problems:
        raise InputProblems(str(path), problems)
    names, codes = np.unique(table[["a", "b"]].to_numpy(str), return_inverse=True)
    return Pairs(names.tolist(), codes.reshape(-1, 2), scores)


def tm_pairs(chains: Mapping[str, Chain]) -> Pairs:
    """All pairs of chains by TM-align (Zhang & Skolnick 2005), the mean of both normalisations.

    Raises
    ------
    StateshiftError
        tmtools isn't installed, there are fewer than two chains, or a chain is under three residues.
    """
    try:
        from tmtools import tm_align
    except ImportError as error:
        raise StateshiftError(
            "TM-scores need tmtools: install it with `pip install 'stateshift[structure]'`, or give a table with --pairs."
        ) from error
    names = list(chains)
    traces = {name: _trace(chain) for name, chain in chains.items()}
    short = [name for name, (places, _) in traces.items() if len(places) < 3]
    if short or len(names) < 2:
        raise StateshiftError(
            f"TM-scores need two chains of three residues or more (shorter: {some(short) or 'none'})."
        )
    index = np.array(list(itertools.combinations(range(len(names)), 2)))
    scores = np.empty(len(index), dtype=np.float32)
    for row, (i, j) in enumerate(track(index, "Aligning structures", total=len(index))):
        (a, a_letters), (b, b_letters) = traces[names[i]], traces[names[j]]
        aligned = tm_align(a, b, a_letters, b_letters)
        scores[row] = (aligned.tm_norm_chain1 + aligned.tm_norm_chain2) / 2
    return Pairs(names, index, np.clip(scores, 0, 1))


def class_pairs(classes: Mapping[str, str], per_level: int, seed: int = 0) -> Pairs:
    """Pairs drawn from a classification, equally many of every level that two chains can share.

    Parameters
    ----------
    classes
        Name → SCOP (``a.1.1.2``) or CATH (``1.10.10.10``) code.
    per_level
        Pairs of each level; a level with fewer gives what it has, repeats left out.
    seed
        Draws them.
    """
    rng = np.random.default_rng(seed)
    names = list(classes)
    codes = [classes[name].split(".") for name in names]
    levels = LEVELS["cath" if codes[0][0].isdigit() else "scop"]
    short = [name for name, code in zip(names, codes) if len(code) < max(levels)]
    if short:
        raise StateshiftError(f"Classes need {max(levels)} parts, as in a.1.1.2 or 1.10.10.10; others: {some(short)}.")
    chosen: dict[tuple[int, int], float] = {}
    for shared, similarity in levels.items():
        for pair in _sharing(codes, shared, max(levels), per_level, rng):
            chosen[pair] = similarity
    for _ in range(per_level):
        i, j = sorted(rng.integers(len(names), size=2).tolist())
        if i != j and _shared(codes[i], codes[j]) < min(levels):
            chosen[i, j] = UNRELATED
    if not chosen:
        raise StateshiftError("The classes give no pairs: two chains at least are needed.")
    return Pairs(names, np.array(list(chosen)), np.array(list(chosen.values()), dtype=np.float32))


def _trace(chain: Chain) -> tuple[np.ndarray, str]:
    """CA positions and letters of the residues that have one."""
    ca = chain.backbone[:, 1]
    there = np.isfinite(ca).all(axis=1)
    return ca[there].astype(np.float64), "".join(x for x, ok in zip(chain.sequence, there) if ok)


def _sharing(
    codes: Sequence[list[str]], shared: int, deepest: int, count: int, rng: np.random.Generator
) -> set[tuple[int, int]]:
    """Up to `count` pairs that share exactly so many leading parts (or all); groups count alike."""
    groups: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for i, code in enumerate(codes):
        below = code[shared] if shared < deepest else str(i)
        groups.setdefault(tuple(code[:shared]), {}).setdefault(below, []).append(i)
    wide = [list(parts.values()) for parts in groups.values() if len(parts) > 1]
    found: set[tuple[int, int]] = set()
    for _ in range(count if wide else 0):
        parts = wide[rng.integers(len(wide))]
        first, second = rng.choice(len(parts), size=2, replace=False)
        i, j = rng.choice(parts[first]), rng.choice(parts[second])
        found.add((min(int(i), int(j)), max(int(i), int(j))))
    return found


def _shared(a: list[str], b: list[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
