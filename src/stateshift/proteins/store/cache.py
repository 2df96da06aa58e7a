"""Embeddings kept on this machine by what they were made of, so that nothing is embedded twice."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.files import locked
from stateshift.proteins.store.reader import PART, EmbeddingStore, digest_of
from stateshift.proteins.store.writer import StoreWriter, lengthen

logger = logging.getLogger(__name__)

MOST_FILES, SMALL = 32, 64 * 2**20
"""When so many stores of up to so many bytes lie in a folder, they become one."""

Fill = Callable[[Path, Mapping[str, str]], StoreWriter]
"""Embeds id → text into the store of that name, and gives it whole."""


class EmbeddingCache:
    """Values of texts under one recipe, each embedded once, in a folder of stores.

    A store is written for the texts that the others lack, and never grows; many small ones become one. What an earlier process left unfinished,
    or a disk cut short, serves as far as its checksums say that it is whole, and the rest is embedded anew. Processes
    that want the same folder wait for each other.

    Parameters
    ----------
    folder
        Of all recipes; each has a folder of its own in it.
    settings
        All that decides the values, as JSON has it.
    level
        ``protein`` or ``residue``: what of a store is read.
    fill
        Embeds what is lacking. The model is needed for nothing else.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], level: str, fill: Fill):
        self.folder, self._settings = Path(folder) / digest_of(settings).hex()[:20], settings
        self.level, self._fill = level, fill
        self._stores: dict[Path, EmbeddingStore] = {}

    def __getitem__(self, text: str) -> np.ndarray:
        """The values of one text: (D,), or (L, D) of residues.

        Raises
        ------
        KeyError
            It is not there, or what is there doesn't match its checksum: `ensure` embeds it.
        """
        name = _name(text)
        for store in self._stores.values():
            if name in store:
                with contextlib.suppress(
                    StateshiftError, OSError
                ):  # unfinished or damaged, which another store may not be
                    return store.protein(name) if self.level == "protein" else store.residue(name)
        raise KeyError(text)

    def ensure(self, texts: Iterable[str]) -> int:
        """Embed those of the texts that are not there yet; how many that were."""
        wanted = dict.fromkeys(texts)
        if not self._lacking(wanted):
            return 0
        with self._alone():
            self._open_stores()
            lacking = self._lacking(wanted)
            if lacking:
                sequences = {_name(text): text for text in lacking}
                path = self.folder / f"{hashlib.sha256(''.join(sequences).encode()).hexdigest()[:20]}.h5"
                unfinished = path.with_name(path.name + PART)
                self._close(unfinished, path)
                self._fill(unfinished, sequences).finish(path)
                self._open_stores()
                self._merge()
        left = self._lacking(wanted)
        if left:
            raise StateshiftError(
                f"{self.folder} does not keep what is written to it: delete it, or name another disk."
            )
        return len(lacking)

    def close(self) -> None:
        """Close its files."""
        self._close(*self._stores)

    def _lacking(self, wanted: Iterable[str]) -> list[str]:
        lacking = []
        for text in wanted:
            try:
                self[text]
            except KeyError:
                lacking.append(text)
        return lacking

    def _open_stores(self) -> None:
        """Open what other processes have added; a file that lost its beginning is of no use and goes."""
        for path in sorted(self.folder.glob("*.h5*")):
            if path in self._stores or path.name.startswith("."):
                continue
            with open(path, "rb"):  # what can't even be opened, for want of rights or handles, is not damaged
                pass
            try:
                lengthen(path)
                self._stores[path] = EmbeddingStore(path)
            except (StateshiftError, KeyError, OSError, ValueError):
                logger.warning("%s is damaged beyond use: what it held is embedded anew.", path)
                path.unlink()

    def _merge(self) -> None:
        """Make one store of many small ones, so that few files are open however often a gene is asked for."""
        small = {path: store for path, store in self._stores.items() if path.stat().st_size <= SMALL}
        if len(small) < MOST_FILES:
            return
        values = {}
        for store in small.values():
            for name in store.ids:
                with contextlib.suppress(KeyError):
                    text = store.sequence(name)
                    values[text] = self[text]
        if not values:
            return
        any_store, sequences = next(iter(small.values())), {_name(text): text for text in values}
        path = self.folder / f"{hashlib.sha256(''.join(sequences).encode()).hexdigest()[:20]}.h5"
        unfinished = path.with_name(path.name + PART)
        options = {"model": any_store.model, "width": any_store.width, "levels": (self.level,)}
        with StoreWriter(unfinished, sequences, self._settings, **options) as writer:
            for number, text in enumerate(writer.texts):
                writer.add(number, {self.level: values[text]})
            writer.finish(path)
        self._close(*small)
        for other in set(small) - {path}:
            other.unlink()
        self._open_stores()

    def _close(self, *paths: Path) -> None:
        for path in paths:
            if path in self._stores:
                self._stores.pop(path).close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only this process fills the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateshiftError(f"{self.folder} can't be made: {error.strerror or error}.") from error
        with locked(self.folder / "lock"):
            yield


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
