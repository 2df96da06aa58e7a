"""Every row of the tables in docs/reliability.md names tests that there are."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"


def named_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_names_a_test_that_there_is():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "| test" not in line]
    faults = [row for row in rows if row.count("|") == 4]
    assert len(faults) >= 30
    for row in faults:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test is named in: {row}"
        for file, test in named:
            assert test in named_in(REPOSITORY / file), f"{file} has no {test}"


def test_the_measured_tables_count_what_the_script_counts(faults):
    measured = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [\w, ]+ \| \d", line)]
    damaged = [
        [int(cell) for cell in re.findall(r"\| (\d+) (?=\|)", line)] for line in measured if line.count("|") == 8
    ]
    assert len(damaged) == 14
    assert {sum(counts) for counts in damaged} == {500}
    assert {tuple(counts[3:]) for counts in damaged} == {(0, 0, 0)}
