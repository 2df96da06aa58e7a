"""The ``stateshift`` command: groups put together, errors made one sentence."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from stateshift import __version__
from stateshift.cli import (
    bioemb,
    challenge,
    data,
    effects,
    evaluation,
    features,
    prediction,
    protein,
    rag_esm,
    report,
    structure,
    training,
)
from stateshift.errors import StateshiftError, first_line, is_out_of_memory, visible
from stateshift.files import is_disk_full

STOPPED = 130
"""The exit code of Ctrl-C, also that which typer makes of it."""

app = typer.Typer(
    name="stateshift",
    help="Predict how a population of cells shifts when a gene is perturbed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
training.register(app)
prediction.register(app)
evaluation.register(app)
report.register(app)
app.add_typer(features.app, name="features")
app.add_typer(protein.app, name="protein")
app.add_typer(structure.app, name="structure")
app.add_typer(bioemb.app, name="bioemb")
app.add_typer(rag_esm.app, name="rag-esm")
app.add_typer(effects.app, name="effects")
app.add_typer(challenge.app, name="challenge")
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stateshift {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


class _Visible(logging.Formatter):
    """Names from files steer no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def call(command: Callable[[], object]) -> None:
    """Run a command; a user's error becomes its sentence on standard error and exit code 2."""
    said = logging.StreamHandler(sys.stderr)
    said.setFormatter(_Visible("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[said])
    logging.getLogger("stateshift").setLevel(logging.INFO)
    # ended by a scheduler, a command still clears away what it has half written
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        command()
    except StateshiftError as error:
        typer.echo(visible(f"stateshift: {error}"), err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != STOPPED:
            raise
        typer.echo("stateshift: stopped.", err=True)
        sys.exit(STOPPED)
    except (OSError, MemoryError, RuntimeError) as error:
        if is_disk_full(error):
            reason = "no room is left on the disk"
        elif is_out_of_memory(error):
            reason = f"the memory doesn't suffice ({first_line(error)}): give it less at once, or a machine with more"
        elif str(error).startswith("Symlink loop"):  # until Python 3.13, of paths that are resolved
            reason = first_line(error)
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            raise
        name = getattr(error, "filename", None)
        typer.echo(visible(f"stateshift: {f'{name}: ' if name else ''}{reason}."), err=True)
        sys.exit(2)


def run() -> None:
    """The console script ``stateshift``."""
    call(app)
