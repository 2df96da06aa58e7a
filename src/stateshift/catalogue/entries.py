"""What the catalogue holds, read from ``data/catalogue.toml``: a new entry is a new table there."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from stateshift.errors import StateshiftError, suggestion


@dataclass(frozen=True)
class PublicFile:
    """One file and where it lies.

    Parameters
    ----------
    name
        What it is called on disk.
    url
        Its address.
    size
        In bytes, or None where nobody says it or it changes with every release.
    checksum
        ``algorithm:hex`` as its source publishes it, or None: then the first download is trusted.
    unpack
        Whether it is a zip file that is of use only unpacked.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None
    unpack: bool = False


@dataclass(frozen=True)
class Entry:
    """One data set or model, and the files that make it.

    Parameters
    ----------
    name
        What a user types.
    what
        One line on the content.
    source
        The page that describes it.
    licence
        As the source states it, or that it doesn't.
    citation
        The papers to cite.
    files
        In the order in which they are fetched; empty where `manual` says how to get them.
    note
        What a user has to know before or after fetching.
    manual
        How to get what no program may fetch: a login, a click.
    """

    name: str
    what: str
    source: str
    licence: str
    citation: str
    files: tuple[PublicFile, ...] = ()
    note: str = ""
    manual: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of all files, or None where one of them is not known."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if sizes and None not in sizes else None


def entries() -> dict[str, Entry]:
    """All entries by name, in the order of the catalogue.

    Examples
    --------
    >>> entries()["norman_2019"].files[0].name
    'NormanWeissman2019_filtered.h5ad'
    """
    text = (resources.files("stateshift") / "data" / "catalogue.toml").read_text(encoding="utf-8")
    return {
        name: Entry(name, **{**table, "files": tuple(PublicFile(**file) for file in table.get("files", []))})
        for name, table in tomllib.loads(text).items()
    }


def entry(name: str) -> Entry:
    """One entry.

    Raises
    ------
    StateshiftError
        There is no such entry; the nearest is named.

    Examples
    --------
    >>> entry("kang2018")
    Traceback (most recent call last):
        ...
    stateshift.errors.StateshiftError: The catalogue has no `kang2018` (did you mean `kang_2018`?).
    """
    known = entries()
    if name not in known:
        raise StateshiftError(f"The catalogue has no `{name}`{suggestion(name, known)}.")
    return known[name]
