"""The README's tree names every file of the package, in its folder, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def named_in(tree: str) -> set[str]:
    """The paths of an indented tree: names up to three spaces, those that end in a slash open a folder."""
    paths, folders = set(), []
    for line in filter(str.strip, tree.splitlines()):
        indent = len(line) - len(line.lstrip())
        folders = [(depth, name) for depth, name in folders if depth < indent]
        names = re.split(r"[,\s]+", re.split(r"\s{3,}", line.strip(), maxsplit=1)[0])
        parent = "".join(name for _, name in folders)
        paths.update(parent + name for name in names)
        if names[0].endswith("/"):
            folders.append((indent, names[0]))
    return paths


def the_tree() -> str:
    return (REPOSITORY / "README.md").read_text().split("## The tree")[1].split("```")[1]


def test_a_name_counts_in_its_own_folder_alone():
    tree = "src/\n  features/        where vectors come from\n    esm2.py table.py   one each\n  proteins/\n    fasta.py   files\n  run.py"
    assert named_in(tree) == {
        "src/",
        "src/features/",
        "src/features/esm2.py",
        "src/features/table.py",
        "src/proteins/",
        "src/proteins/fasta.py",
        "src/run.py",
    }


def test_the_tree_names_every_file_of_the_package_in_its_folder():
    named = named_in(the_tree())
    package = REPOSITORY / "src" / "stateshift"
    files = [f for f in package.rglob("*.py") if f.name != "__init__.py" and f.parent.name != "cli"]
    assert len(files) > 50
    assert [path for f in files if (path := f.relative_to(REPOSITORY).as_posix()) not in named] == []


def test_the_tree_names_nothing_that_is_not_there():
    assert [name for name in sorted(named_in(the_tree())) if not (REPOSITORY / name).exists()] == []


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", (REPOSITORY / "README.md").read_text())
    assert len(links) >= 3
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
