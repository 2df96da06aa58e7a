"""The README's tree names every file of the package."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_the_tree_names_every_file_of_the_package():
    tree = (REPOSITORY / "README.md").read_text().split("## The tree")[1]
    package = REPOSITORY / "src" / "stateshift"
    files = [f for f in package.rglob("*.py") if f.name != "__init__.py" and f.parent.name != "cli"]
    assert len(files) > 50
    assert [f.relative_to(package).as_posix() for f in files if f.name not in tree] == []


def test_every_file_that_the_readme_links_to_is_there():

    links = re.findall(r"\]\(([^)#:]+)\)", (REPOSITORY / "README.md").read_text())
    assert len(links) >= 3
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
