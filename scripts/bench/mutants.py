"""Whether the tests notice a changed line: small mutations, drawn at random, and the tests of their module.

    python scripts/bench/mutants.py [cells effects challenge] [--number 60] [--seed 0]

A mutation turns one comparison, arithmetic or boolean operator, condition, number, truth value or loop exit into another. Each
runs in a fork of a process that has imported the libraries, the mutant in the module's place, until its first test or doctest
fails: it is killed by a failing one or by taking far longer than they took before. Prints a line a survivor and, last, the
share killed. On Linux; some 3 core-seconds a mutant.
"""

from __future__ import annotations

import argparse
import ast
import copy
import doctest
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "stateshift"
VALIDATION = (
    "challenge/validation/test_validate.py",
    "challenge/test_season_2026.py",
    "challenge/validation/test_odd_files.py",
    "challenge/validation/test_rules.py",
    "challenge/validation/test_official_checks.py",
)
# module → tests, below src/stateshift and tests: those that are about it and take seconds
TESTS = {
    "cells": {
        "cells/splits.py": [
            "cells/test_splits.py",
            "cells/test_splits_like_cell_load.py",
            "cells/checks/test_inspection.py",
        ],
        "cells/regimes.py": ["cells/test_regimes.py", "cells/test_splits.py"],
        "cells/experiment.py": ["cells/test_experiment.py", "cells/test_splits.py"],
    },
    "effects": {
        "effects/simple.py": ["effects/test_effect_models.py", "effects/test_partly_measured.py"],
        "effects/main_effects.py": ["effects/test_effect_models.py", "effects/test_partly_measured.py"],
        "effects/alike.py": ["effects/test_alike.py", "effects/test_transfer.py"],
        "effects/transfer.py": ["effects/test_transfer.py", "effects/test_effect_models.py"],
        "effects/mapped_transfer.py": ["effects/test_mapped_transfer.py"],
        "effects/own_target.py": ["effects/test_own_target.py"],
        "effects/doubles.py": ["effects/test_doubles.py"],
        "effects/from_features/ridge.py": ["effects/test_effect_models.py", "effects/test_partly_measured.py"],
        "effects/from_features/knn.py": [
            "effects/from_features/test_knn.py",
            "effects/test_effect_models.py",
            "effects/test_partly_measured.py",
        ],
        "effects/from_features/bilinear.py": [
            "effects/from_features/test_bilinear.py",
            "effects/test_effect_models.py",
        ],
        "effects/conformal/calibration.py": ["effects/conformal/test_calibration.py"],
        "effects/conformal/nearest.py": ["effects/conformal/test_nearest.py"],
        "effects/stack/weights.py": ["effects/stack/test_weights.py"],
        "effects/calls/read.py": ["effects/calls/test_read.py", "effects/calls/test_model.py"],
        "effects/calls/score.py": ["effects/calls/test_score.py", "effects/calls/test_model.py"],
    },
    "challenge": {
        "challenge/seasons.py": ["challenge/test_seasons.py", "challenge/validation/test_rules.py"],
        "challenge/lists.py": ["challenge/test_lists.py", *VALIDATION],
        "challenge/facts.py": ["challenge/test_facts.py", *VALIDATION],
        "challenge/candidate.py": ["challenge/test_facts.py", *VALIDATION],
        "challenge/validation/genes.py": ["challenge/validation/test_genes.py", *VALIDATION],
        "challenge/validation/labels.py": ["challenge/validation/test_labels.py", *VALIDATION],
        "challenge/validation/values.py": ["challenge/validation/test_values.py", *VALIDATION],
        "challenge/validation/cells.py": ["challenge/validation/test_cells.py", *VALIDATION],
        "challenge/export/package.py": ["challenge/export/test_package.py", "challenge/export/test_export.py"],
        "challenge/export/submission.py": [
            "challenge/export/test_export.py",
            "challenge/test_season_2026.py",
            "challenge/validation/test_odd_files.py",
        ],
    },
}
COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
REASONED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def children(node: ast.AST) -> list[ast.AST]:
    """What of a node is run and tested: no annotations, decorators, messages or type-checking imports."""
    if isinstance(node, ast.JoinedStr | ast.Raise) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ):
        return []
    left_out = ("annotation", "returns", "decorator_list")
    values = [value for field, value in ast.iter_fields(node) if field not in left_out]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if isinstance(item, ast.AST)]


def sites(tree: ast.AST) -> list[ast.AST]:
    """Nodes that can be mutated, in order."""
    ahead, found = [tree], []
    while ahead:
        node = ahead.pop()
        ahead += reversed(children(node))
        number = isinstance(node, ast.Constant) and type(node.value) in (bool, int, float)
        swapped = isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in REASONED
        compared = isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED
        if number or swapped or compared or isinstance(node, ast.If | ast.IfExp | ast.Break | ast.Continue):
            found.append(node)
    return found


def mutated(tree: ast.Module, number: int) -> tuple[ast.Module, str]:
    """The tree with its site of a number changed, and what was changed."""
    tree = copy.deepcopy(tree)
    node = sites(tree)[number]
    before = ast.unparse(node).splitlines()[0]
    if isinstance(node, ast.Constant):
        node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Compare):
        node.ops = [COMPARED[type(node.ops[0])]()]
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Break | ast.Continue):
        node.__class__ = ast.Continue if isinstance(node, ast.Break) else ast.Break
    else:
        node.op = REASONED[type(node.op)]()
    told = f"line {node.lineno}: {before[:70]} → {ast.unparse(node).splitlines()[0][:70]}"
    return ast.fix_missing_locations(tree), told


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree in place of its file."""

    def __init__(self, file: Path, tree: ast.Module):
        self.name, self.file, self.tree = self.name_of(file), file, tree

    @staticmethod
    def name_of(file: Path) -> str:
        return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_file_location(name, self.file, loader=self) if name == self.name else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.tree, self.file, "exec"), module.__dict__)


def outcome(file: Path, tree: ast.Module, tests: list[str], limit: float) -> tuple[str, float]:
    """``passed``, ``failed`` or ``slow``, and the seconds it took, of tests in a fork."""
    began = time.process_time(), time.monotonic()
    child = os.fork()
    if not child:
        import pytest

        signal.setitimer(signal.ITIMER_REAL, limit)
        signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, Replaced(file, tree))
        if doctest.testmod(importlib.import_module(Replaced.name_of(file))).failed:
            os._exit(1)
        paths = [str(REPOSITORY / "tests" / test) for test in tests]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(REPOSITORY), *paths])))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "passed", 99: "slow"}.get(code, "failed"), time.monotonic() - began[1]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("rooms", nargs="*", default=list(TESTS))
    words.add_argument("--number", type=int, default=60)
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    for library in (
        "anndata",
        "lightning",
        "pandas",
        "pytest",
        "scanpy",
        "scipy.stats",
        "sklearn.linear_model",
        "torch",
    ):
        importlib.import_module(library)
    for room in asked.rooms:
        trees = {name: ast.parse((SOURCE / name).read_text()) for name in TESTS[room]}
        drawn = [(name, number) for name, tree in trees.items() for number in range(len(sites(tree)))]
        there = len(drawn)
        drawn = sorted(random.Random(asked.seed).sample(drawn, min(asked.number, there)))
        limits: dict[str, float] = {}
        survived = 0
        for name, number in drawn:
            if name not in limits:
                said, seconds = outcome(SOURCE / name, trees[name], TESTS[room][name], 600)
                assert said == "passed", f"the tests of {name} fail before anything is mutated"
                limits[name] = 30 + 10 * seconds
            tree, told = mutated(trees[name], number)
            said, _ = outcome(SOURCE / name, tree, TESTS[room][name], limits[name])
            survived += said == "passed"
            if said == "passed":
                print(f"survived: {name} {told}", flush=True)
        killed = len(drawn) - survived
        print(
            f"{room}: {killed} of {len(drawn)} mutants killed ({killed / len(drawn):.0%}; {there} possible)", flush=True
        )


if __name__ == "__main__":
    main()
