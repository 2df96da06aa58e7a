"""Names from files are shown as they are: no markup of the terminal's, no colours, no smileys."""

import io
from pathlib import Path

import pytest
import rich.console
from rich.table import Table

import stateshift.cli
from stateshift.cli.console import console_for_tables
from stateshift.cli.main import call
from stateshift.errors import StateshiftError
from stateshift.progress import track

NAMES = ["K562[rep1]", "K562[/rep1]", ":warning:"]


def test_names_in_tables_are_no_markup(capsys):
    table = Table(title=NAMES[0])
    for name in NAMES:
        table.add_row(name)
    console_for_tables().print(table, *NAMES)
    shown = capsys.readouterr().out
    assert [shown.count(name) for name in NAMES] == [3, 2, 2]


def test_every_command_shows_names_by_that_console():
    folder = Path(stateshift.cli.__file__).parent
    others = {path.name for path in folder.glob("*.py") if "Console(" in path.read_text()}
    assert others == {"console.py", "data.py"}, "data.py shows the catalogue alone, which is ours"


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_progress_bar_takes_a_name_for_a_name(name, monkeypatch):
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=200)
    monkeypatch.setattr(rich.console, "Console", lambda **options: console)
    assert list(track([1], f"cells of {name}")) == [1]
    assert f"cells of {name}" in screen.getvalue()


def test_what_is_said_of_names_steers_no_terminal(capsys):
    def refuse():
        raise StateshiftError("there is no `T98G\x1b[2J\u200b` in\nx.h5ad.")

    with pytest.raises(SystemExit) as ended:
        call(refuse)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "stateshift: there is no `T98G\\x1b[2J\\u200b` in\nx.h5ad.\n"
