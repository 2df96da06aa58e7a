"""What a process that was killed left half written."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
from pathlib import Path

from stateshift.errors import some

logger = logging.getLogger(__name__)

TOKEN = secrets.token_hex(2)
"""Tells this process from others of its number, which machines give out again and containers share."""


def beside_of(path: Path) -> Path:
    """The hidden name under which this process writes what will be `path`."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{TOKEN}.part{path.suffix}")


@functools.cache
def name_leftovers(folder: Path) -> None:
    """Say once what lies half written in a folder, and whose process is gone: it may fill the disk.

    It isn't deleted: the processes of another machine or container can't be seen from here.
    """
    with contextlib.suppress(OSError):  # a folder that can be written to, and not listed
        parts = [re.search(r"\.(\d+)-([0-9a-f]{4})\.part(\.|$)", name) for name in os.listdir(folder) if name[0] == "."]
        dead = {part.string for part in parts if part and part[2] != TOKEN and not _is_at_work(int(part[1]))}
        if left := sorted(dead & set(os.listdir(folder))):
            logger.warning(
                "%s: left half written by a process that was killed: %s. Delete it, unless another machine is at it.",
                folder,
                some(left),
            )


def _is_at_work(process: int) -> bool:
    """Whether there is another process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return process != os.getpid()
