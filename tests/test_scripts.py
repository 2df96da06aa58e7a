"""Scripts are not run by the tests, whose figures take hours; what they use of the package is there, and takes what they give."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((REPOSITORY / "scripts").rglob("*.py"))


def imported(nodes):
    """Name → what of the package is imported by it."""
    found = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "stateshift":
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
                found[name.asname or name.name] = getattr(module, name.name)
    return found


def programs(text):
    """The tree of a script, and those of the programs that it hands to other processes as texts."""
    tree = ast.parse(text)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    inner = sorted(one for one in texts if one.startswith("\n") and "import " in one)
    # what is to be filled in, {name!r}, is read as a set of one
    return [tree, *(ast.parse(one.replace("!r}", "}")) for one in inner)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_script_imports_is_there_and_takes_the_arguments_that_it_is_given(path):
    nodes = [node for tree in programs(path.read_text()) for node in ast.walk(tree)]
    names = imported(nodes)
    wrong = []
    for call in nodes:
        if isinstance(call, ast.Call) and ast.unparse(call.func) in names:
            given = {word.arg: None for word in call.keywords}
            if None not in given and not any(isinstance(one, ast.Starred) for one in call.args):
                try:
                    inspect.signature(names[ast.unparse(call.func)]).bind(*call.args, **given)
                except TypeError as error:
                    wrong.append(f"line {call.lineno}: {error}")
    assert wrong == []
