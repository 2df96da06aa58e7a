"""The site is built without a warning, needs no network, leads to every page, and its API names every function."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("cells", "features", "effects", "transition", "training", "prediction", "evaluation", "challenge", "proteins")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; `strict` makes an error of every warning: links, anchors, names that the API lacks."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    patch = pytest.MonkeyPatch()
    patch.setenv("NO_MKDOCS_2_WARNING", "1")
    patch.chdir(REPOSITORY)
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPOSITORY / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    patch.undo()
    return folder


def named_in(nav) -> list[str]:
    """The pages of a navigation tree."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in named_in(part)]


def test_every_page_is_in_the_navigation_once():
    import yaml

    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    pages = [page.name for page in (REPOSITORY / "docs").glob("*.md")]
    assert sorted(named_in(nav)) == sorted(pages)
    assert len(pages) > 25


def test_a_page_fetches_nothing_from_elsewhere(site):
    loaded = r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\""
    for page in (site / "index.html", site / "api" / "index.html"):
        addresses = ["".join(found) for found in re.findall(loaded, page.read_text())]
        assert len(addresses) > 3
        assert [address for address in addresses if "//" in address] == []


def anchors(site: Path) -> set[str]:
    return set(re.findall(r'id="(stateshift\.[\w.]+)"', (site / "api" / "index.html").read_text()))


@pytest.mark.parametrize("room", ROOMS)
def test_the_api_page_holds_every_function_and_class_of_a_room(site, room):
    package = importlib.import_module(f"stateshift.{room}")
    public = {n: of for n in package.__all__ if inspect.isroutine(of := getattr(package, n)) or inspect.isclass(of)}
    assert len(public) >= 2
    known = anchors(site)
    # a function that is called like its module stands under its full name
    places = {n: {f"stateshift.{room}.{n}", f"{of.__module__}.{n}"} for n, of in public.items()}
    assert [n for n, either in places.items() if not either & known] == []


def test_the_api_page_holds_what_the_commands_call(site):
    called = set()
    for file in (REPOSITORY / "src" / "stateshift" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("stateshift."):
                continue
            if not node.module.startswith(("stateshift.cli", "stateshift.files")):
                module = importlib.import_module(node.module)
                called |= {n.name for n in node.names if inspect.isfunction(getattr(module, n.name))}
    assert len(called) > 50
    assert called - {anchor.rsplit(".", 1)[1] for anchor in anchors(site)} == set()
